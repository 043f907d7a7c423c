"""LeNet-5 as it is drawn today on Fashion-MNIST, in MNIST's format and with its recipe.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
  algorithms", 2017. The set's own table gives 87.6 to 91.6 % for two convolutions with pooling.
Command: python -m cnnrnn.main --config configs/fashion_mnist_lenet5.py --workdir runs/fashion_mnist_lenet5
  (with --config.data.manual_dir=FOLDER if the original files are at hand)
Hardware: two CPU cores, 6.0 minutes, 0.7 GB.
Score: test accuracy 91.11 +- 0.34 % (mean and standard deviation of 3 seeds; python experiments/seeds/run.py
  --config configs/fashion_mnist_lenet5.py).
"""

from ml_collections import ConfigDict

EPOCH = 60_000 // 128  # steps in a pass over the training set


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.286,), std=(0.353,)),
            model=dict(name="lenet5.LeNet5"),
            data=dict(name="images.published.fashion_mnist", batch_size=128, data_dir=None, manual_dir=None),
            optim=dict(name="sgd", learning_rate=0.05, momentum=0.9, schedule="cosine", weight_decay=5e-4),
            train=dict(num_steps=15 * EPOCH, log_every=100, eval_every=EPOCH, checkpoint_every=EPOCH),
        )
    )
