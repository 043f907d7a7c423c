"""LeNet-5 as it is drawn today on MNIST, 60,000 digits to train and 10,000 to test.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998,
  figure 2. Its net, which differs in pooling, nonlinearity and output, reached 99.05 % on the original digits.
Command: python -m cnnrnn.main --config configs/mnist_lenet5.py --workdir runs/mnist_lenet5
  (with --config.data.manual_dir=FOLDER if the original files are at hand)
Hardware: two CPU cores, 5.0 minutes, 0.7 GB.
Score: test accuracy 99.24 +- 0.06 % (mean and standard deviation of 3 seeds; python experiments/seeds/run.py
  --config configs/mnist_lenet5.py).
"""

from ml_collections import ConfigDict

EPOCH = 60_000 // 128  # steps in a pass over the training set


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.1307,), std=(0.3081,)),
            model=dict(name="lenet5.LeNet5"),
            data=dict(name="images.published.mnist", batch_size=128, data_dir=None, manual_dir=None),
            optim=dict(name="sgd", learning_rate=0.05, momentum=0.9, schedule="cosine", weight_decay=5e-4),
            train=dict(num_steps=15 * EPOCH, log_every=100, eval_every=EPOCH, checkpoint_every=EPOCH),
        )
    )
