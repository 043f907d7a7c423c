"""Speech to phones: words that eSpeak NG synthesizes.

Source: Graves, Mohamed, Hinton 2013: stacked bidirectional LSTM with CTC. The set is our own.
Command: python -m cnnrnn.main --config configs/espeak_ctc.py --workdir runs/espeak_ctc
Hardware: two CPU cores, 0.8 minutes, and ten seconds to synthesize the words once.
Score: test, new words in new voices: phone error rate 16.92 +- 1.46 %; known words in known voices: 0.22 +- 0.08 % (3
  seeds, before the noise in the voices had a fixed seed; python experiments/speech/run.py).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="speech.Speech", stack=2, time_masks=1, frequency_masks=1),
            model=dict(name="bilstm_ctc.BiLstmCtc", hidden_size=96, num_layers=2, layer_dropout_rate=0.2),
            data=dict(name="audio.recordings.recordings", source="espeak", batch_size=32),
            optim=dict(name="adam", learning_rate=3e-3, schedule="cosine", warmup_steps=100, clip_norm=1.0),
            train=dict(num_steps=2500, log_every=50, eval_every=500, checkpoint_every=500),
        )
    )
