"""LeNet-5 as published in 1998, on MNIST: its connection table, subsampling, Euclidean output and criterion.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998: 0.95 % error
  on the 60,000 originals, 0.8 % with 540,000 distorted ones added. Its second-order rule for the rates is replaced by
  SGD with momentum and, for the distorted images, by Adam.
Command: python -m cnnrnn.main --config configs/mnist_lenet5_1998.py --workdir runs/mnist_lenet5_1998
  (configs/mnist_lenet5_1998.py:distorted distorts every image anew in every pass; with
  --config.data.manual_dir=FOLDER if the original files are at hand)
Hardware: one or two CPU cores beside other work, 4.8 minutes, 0.7 GB; distorted 9.2 minutes, 0.6 GB.
Score: test accuracy 99.00 +- 0.02 % (mean and standard deviation of 3 seeds; python experiments/seeds/run.py
  --config configs/mnist_lenet5_1998.py); distorted 99.23 +- 0.08 % (--config configs/mnist_lenet5_1998.py:distorted).
"""

from ml_collections import ConfigDict

EPOCH = 60_000 // 128  # steps in a pass over the training set
VARIANTS = {
    "originals": dict(
        epochs=20,
        task=dict(),
        optim=dict(name="sgd", learning_rate=0.008, momentum=0.9, weight_decay=3e-3),
    ),
    "distorted": dict(
        epochs=30,
        task=dict(max_shift=2, max_rotation=10.0, max_scale=0.1, max_skew=0.15),
        optim=dict(name="adam", learning_rate=0.002),
    ),
}


def get_config(variant: str = "originals") -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    if variant not in VARIANTS:
        raise ValueError(f"there is no variant {variant}, only {', '.join(VARIANTS)}")
    chosen = VARIANTS[variant]
    return ConfigDict(
        dict(
            seed=0,
            task=dict(
                name="classification.Classification",
                mean=(0.0784,),  # with this std, paper is -0.1 and ink 1.175
                std=(0.7843,),
                rubbish=0.1,
                **chosen["task"],
            ),
            model=dict(name="lenet5_1998.LeNet5"),
            data=dict(name="images.published.mnist", batch_size=128, data_dir=None, manual_dir=None),
            optim=dict(**chosen["optim"], schedule="cosine", warmup_steps=EPOCH),
            train=dict(num_steps=chosen["epochs"] * EPOCH, log_every=100, eval_every=EPOCH, checkpoint_every=EPOCH),
        )
    )
