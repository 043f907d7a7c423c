"""Words from their end to their beginning."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="reverse_words.task.ReverseWords"),
            model=dict(name="recurrent_lm.RecurrentLM", hidden_size=64, num_layers=1, embed_size=16),
            data=dict(name="reverse_words.data.words"),
            optim=dict(name="adam", learning_rate=1e-2, schedule="cosine", clip_norm=1.0),
            train=dict(num_steps=1000, log_every=100, eval_every=250, checkpoint_every=250, decode_every=500),
        )
    )
