"""Harley's net, that of the slides' interactive visualisation, on MNIST with random distortions.

Source: Harley, "An interactive node-link visualization of convolutional neural networks", 2015: 99 % after training on
  digits that were translated, rotated and skewed.
Command: python -m cnnrnn.main --config configs/mnist_harley.py --workdir runs/mnist_harley
  (with --config.data.manual_dir=FOLDER if the original files are at hand)
Hardware: one CPU core beside other work, 5.1 minutes, 0.8 GB.
Score: test accuracy 99.20 +- 0.04 % (mean and standard deviation of 3 seeds; python experiments/seeds/run.py
  --config configs/mnist_harley.py).
"""

from ml_collections import ConfigDict

EPOCH = 60_000 // 128  # steps in a pass over the training set


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(
                name="classification.Classification",
                mean=(0.0784,),  # with this std paper is -0.1 and ink 1.175
                std=(0.7843,),
                max_shift=2,
                max_rotation=10.0,
                max_skew=0.15,
            ),
            model=dict(name="harley.HarleyNet"),
            data=dict(name="images.published.mnist", batch_size=128, data_dir=None, manual_dir=None),
            optim=dict(name="adam", learning_rate=0.002, schedule="cosine", warmup_steps=EPOCH),
            train=dict(num_steps=15 * EPOCH, log_every=100, eval_every=EPOCH, checkpoint_every=EPOCH),
        )
    )
