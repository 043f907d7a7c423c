"""The slides classic net on the 5,000 digits."""

from ml_collections import ConfigDict

EPOCH = 4000 // 32  # steps in a pass over the training set


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.1307,), std=(0.3081,), max_shift=2),
            model=dict(name="convnet.ConvNet", features=(32, 32, 64)),
            data=dict(name="images.digits", batch_size=32),
            optim=dict(name="sgd", learning_rate=0.02, momentum=0.9, schedule="cosine", weight_decay=5e-4),
            train=dict(num_steps=10 * EPOCH, log_every=EPOCH, eval_every=2 * EPOCH, checkpoint_every=2 * EPOCH),
        )
    )
