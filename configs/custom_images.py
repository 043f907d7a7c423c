"""Your own images: all it takes is a folder for each class.

Source: the net with batch normalisation of cnnrnn/models/batchnorm_net.py (Ioffe, Szegedy 2015).
Command: python -m cnnrnn.main --config configs/custom_images.py --workdir runs/custom_images
  --config.data.source=FOLDER with FOLDER/class/*.png|jpg|..., of which a tenth is held out for testing; or with
  FOLDER/train/class/* and FOLDER/test/class/*; or --config.data.source=tfds:NAME, a set that TFDS has prepared
Hardware: two CPU cores.
Score: not measured: it depends on the images.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.5,), std=(0.25,), max_shift=2, flip=True),
            model=dict(name="batchnorm_net.BatchNormNet"),
            data=dict(name="images.custom.image_set", source="images", batch_size=64),
            optim=dict(
                name="sgd", learning_rate=0.05, momentum=0.9, nesterov=True, schedule="cosine", weight_decay=5e-4
            ),
            train=dict(num_steps=1500, log_every=50, eval_every=250, checkpoint_every=250),
        )
    )
