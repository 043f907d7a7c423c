"""tbd"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="language_modelling.LanguageModelling"),
            model=dict(name="recurrent_lm.RecurrentLM", hidden_size=256, embed_size=64, num_layers=2),
            data=dict(
                name="text.stream", source="tiny_shakespeare", batch_size=64, window=64, data_dir=None, manual_dir=None
            ),
            optim=dict(name="adam", learning_rate=3e-3, schedule="cosine", clip_norm=1.0),
            train=dict(num_steps=1000, log_every=50, eval_every=500, checkpoint_every=500),
        )
    )
