"""AlexNet on ImageNet: as published in two groups, without groups, or its successor in one tower.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012: top-1
  error on the validation set of 2012 40.7 %, top-5 18.2 % (one net, ten crops, table 2). Caffe's replication, one
  central crop, has 42.9 % and 19.8 % (models/bvlc_alexnet/readme.md there). Recipe: section 5; pixels 0 to 255 minus
  their mean, random crops of 224 in 256, half of them mirrored, color jitter (section 4.1).
  The paper's step is v <- 0.9 v - 0.0005 e w - e g with rate e, and w <- w + v. Here it is v <- 0.9 v + 0.0005 w + g
  and w <- w - e v, which is the same while e is constant, and biases do not decay. The paper divides the rate by 10
  when the error stops falling, three times in about 90 passes; here after 30, 50 and 70. The successor ("One weird
  trick for parallelizing convolutional neural networks", 2014) has the same recipe here, but its pixels are divided by
  their standard deviation.
Command: python -m cnnrnn.main --config configs/imagenet_alexnet.py --workdir runs/imagenet_alexnet
  with the set prepared by TFDS as array_record; :ungrouped or :one_tower after the file for the other nets
Hardware: a GPU.
Score: not measured: the set was not at hand; only registered researchers get it. The tests run two steps of it.
"""

from ml_collections import ConfigDict

EPOCH = 1_281_167 // 128  # steps in a pass over the training set
NETS = {
    "grouped": dict(name="alexnet_2012.AlexNet", groups=2),
    "ungrouped": dict(name="alexnet_2012.AlexNet", groups=1),
    "one_tower": dict(name="alexnet.AlexNet"),
}


def get_config(net: str = "grouped") -> ConfigDict:
    """The config of a net; every section is the keyword arguments of what it names."""
    if net not in NETS:
        raise ValueError(f"there is no net {net}, only {', '.join(NETS)}")
    return ConfigDict(
        dict(
            seed=0,
            task=dict(
                name="classification.Classification",
                mean=(0.485, 0.456, 0.406),
                std=(0.229, 0.224, 0.225) if net == "one_tower" else (1 / 255,),  # in 2012 raw pixels minus their mean
                crop=224,
                flip=True,
                color_jitter_std=0.1,
                ten_crops=True,
            ),
            model=NETS[net],
            data=dict(name="images.custom.image_set", source="tfds:imagenet2012", size=256, batch_size=128, workers=4),
            optim=dict(
                name="sgd",
                learning_rate=0.01,
                momentum=0.9,
                weight_decay=5e-4,
                schedule="step",
                transition_begin=10 * EPOCH,
                transition_steps=20 * EPOCH,
                decay_rate=0.1,
            ),
            train=dict(num_steps=90 * EPOCH, log_every=100, eval_every=EPOCH, checkpoint_every=EPOCH // 10),
        )
    )
