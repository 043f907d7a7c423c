"""The quick start of language models: a character LSTM on the help texts of Python. Nothing is downloaded.

Source: the text is pydoc_data.topics of the standard library, about 465,000 characters, slightly different in every
  version of Python: its first 90 % to train, the rest to validate. There is no published score.
Command: python -m cnnrnn.main --config configs/pydoc_lstm.py --workdir runs/pydoc_lstm
Hardware: two CPU cores, 2.3 minutes, 0.6 GB.
Score: validation loss 1.313 +- 0.008 nats a character, which is 1.894 bits (mean and standard deviation of 3 seeds,
  with Python 3.11's texts; python experiments/seeds/run.py --config configs/pydoc_lstm.py).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="language_modelling.LanguageModelling"),
            model=dict(
                name="recurrent_lm.RecurrentLM",
                hidden_size=256,
                num_layers=1,
                embed_size=64,
                output_dropout_rate=0.2,
            ),
            data=dict(name="text.stream", source="pydoc", batch_size=32, window=64),
            optim=dict(name="adam", learning_rate=5e-3, schedule="cosine", warmup_steps=50, clip_norm=1.0),
            train=dict(num_steps=1200, log_every=50, eval_every=300, checkpoint_every=300),
        )
    )
