"""The slides' classic net, Conv ReLU Conv ReLU Pool ReLU Conv ReLU Pool and a linear layer, on the embedded digits.

Source: introductory slides for the architecture; the recipe is ours. There is no published score.
Command: python -m cnnrnn.main --config configs/digits_convnet.py --workdir runs/digits_convnet
Hardware: two CPU cores, 1.7 minutes, 0.5 GB.
Score: test accuracy 97.83 +- 0.47 % (mean and standard deviation of 3 seeds; python experiments/seeds/run.py
  --config configs/digits_convnet.py).
"""

from ml_collections import ConfigDict

EPOCH = 4000 // 32  # steps in a pass over the training set


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.1307,), std=(0.3081,), max_shift=2),
            model=dict(name="convnet.ConvNet", features=(32, 32, 64)),
            data=dict(name="images.published.digits", batch_size=32),
            optim=dict(name="sgd", learning_rate=0.02, momentum=0.9, schedule="cosine", weight_decay=5e-4),
            train=dict(num_steps=10 * EPOCH, log_every=EPOCH, eval_every=2 * EPOCH, checkpoint_every=2 * EPOCH),
        )
    )
