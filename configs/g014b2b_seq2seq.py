"""Spelling to sound on g014b2b, the split of CMUdict in papers on pronunciation.

Source: the architecture is that of the LSTM baseline of SIGMORPHON 2020, task 1, larger. 22.2 % of the words wrong is
  the published result of two layers of 256 on this split. Without stress: 39 phones. Of the training words 5 % are held
  out to validate.
Command: python -m cnnrnn.main --config configs/g014b2b_seq2seq.py --workdir runs/g014b2b --config.data.source=FOLDER,
  where FOLDER holds g014b2b.train and g014b2b.ref
Hardware: two CPU cores, 35 minutes while other work ran beside it.
Score: test word error rate 23.82 %, phone error rate 5.58 %, beam of 5 (one seed, 0); 23.77 % and 5.57 % by
  python -m cnnrnn.evaluate --workdir runs/g014b2b --average=8
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="translation.Translation", label_smoothing=0.1, beam_size=5),
            model=dict(
                name="seq2seq.Seq2Seq",
                hidden_size=256,
                embed_size=128,
                input_dropout_rate=0.2,
                output_dropout_rate=0.3,
            ),
            data=dict(name="bitext.pairs", source="g014b2b", max_length=40, batch_size=128),
            optim=dict(name="adam", learning_rate=2e-3, schedule="cosine", warmup_steps=200, clip_norm=1.0),
            train=dict(
                num_steps=40_000,
                log_every=200,
                eval_every=2000,
                decode_every=4000,
                checkpoint_every=1000,
                max_to_keep=8,
                best_metric="word_error_rate",
                best_mode="min",
            ),
        )
    )
