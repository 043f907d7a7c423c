"""Your own pictures: a folder for each class is all it takes.

Source: the net with batch normalisation of cnnrnn/models/batchnorm_net.py (Ioffe, Szegedy 2015), on whatever pictures.
Command: python -m cnnrnn.main --config configs/pictures.py --workdir runs/pictures --config.data.source=FOLDER
  (FOLDER/class/*.png|jpg|..., a tenth is held out for testing; or FOLDER/train/class/* and FOLDER/test/class/*; or
  tfds:NAME, a set that TFDS has prepared)
Hardware: two CPU cores.
Score: not measured
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.5,), std=(0.25,), max_shift=2, flip=True),
            model=dict(name="batchnorm_net.BatchNormNet"),
            data=dict(name="picture_sets.picture_set", source="pictures", batch_size=64),
            optim=dict(
                name="sgd", learning_rate=0.05, momentum=0.9, nesterov=True, schedule="cosine", weight_decay=5e-4
            ),
            train=dict(num_steps=1500, log_every=50, eval_every=250, checkpoint_every=250),
        )
    )
