"""Spoken digits to phones: the Free Spoken Digit Dataset, official test.

Source: Graves, Mohamed, Hinton 2013: stacked bidirectional LSTM with CTC. Of each digit and speaker recordings 0 to 4
  are the test, 5 to 7 validate.
Command: python -m cnnrnn.main --config configs/spoken_digit_ctc.py --workdir runs/spoken_digit
  --config.data.manual_dir=FOLDER, where FOLDER holds free-spoken-digit-dataset-1.0.9.tar.gz
Hardware: one CPU core, 3.7 minutes while other work ran beside it.
Score: test phone error rate 3.62 %, 4.40 % of the recordings with an error (one seed, 0).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="speech.Speech", num_mels=32, time_masks=2, max_time=8, frequency_masks=2, max_frequency=6),
            model=dict(
                name="bilstm_ctc.BiLstmCtc",
                hidden_size=128,
                num_layers=2,
                input_dropout_rate=0.1,
                layer_dropout_rate=0.3,
            ),
            data=dict(
                name="audio.recordings.recordings",
                source="spoken_digit",
                sample_rate=8000,
                batch_size=32,
                num_buckets=4,
                manual_dir=None,
                left_out=None,
            ),
            optim=dict(name="adam", learning_rate=3e-3, schedule="cosine", warmup_steps=50, clip_norm=1.0),
            train=dict(num_steps=4000, log_every=50, eval_every=200, checkpoint_every=200),
        )
    )
