"""The four-layer net of the AlexNet paper on CIFAR-10, with or without local response normalisation.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012,
  section 3.3: test error 11 % with normalisation, 13 % without. For the rest it refers to cuda-convnet, where
  layers-cifar10-11pct.cfg and layer-params-cifar10-11pct.cfg give the layers, the rates and the method: crops of 24
  pixels, half of them mirrored; raw pixels minus their mean; about 350 passes over four fifths of the training set, 150
  over all of it, and 10 each with a tenth and a hundredth of the rate. Biases learn at twice the rate of the weights.
  The kernels of the convolutions do not decay, those of the locally connected layers decay by 0.004 and that of the
  last layer by 0.01. The mean over ten crops is evaluated. All this is done here, but all passes are over the full
  training set, and the mean that is subtracted is one for each color, not one for each pixel.
Command: python -m cnnrnn.main --config configs/cifar10_krizhevsky.py --workdir runs/cifar10_krizhevsky
  (with --config.data.manual_dir=FOLDER if cifar-10-binary.tar.gz is at hand); --config.model.normalise=False for the
  net without normalisation
Hardware: a GPU; on two CPU cores a pass takes minutes, and there are 520.
Score: not measured: the set was not at hand. The tests run two steps of it.
"""

from ml_collections import ConfigDict

EPOCH = 50_000 // 128  # steps in a pass over the training set


def get_config() -> ConfigDict:
    """The config; every section is the keyword arguments of what it names."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(
                name="classification.Classification",
                mean=(0.4914, 0.4822, 0.4465),
                std=(1 / 255,),  # the first layer's weights begin at 1e-4 for pixels from 0 to 255
                crop=24,
                flip=True,
                ten_crops=True,
            ),
            model=dict(name="cifar_net.CifarNet", normalise=True),
            data=dict(name="images.published.cifar10", batch_size=128, data_dir=None, manual_dir=None),
            optim=dict(
                name="sgd",
                learning_rate=0.001,
                momentum=0.9,
                weight_decay=0.004,
                decay_multipliers=(("conv*/kernel", 0.0), ("fc10/kernel", 2.5)),
                rate_multipliers=(("*/bias", 2.0),),
                schedule="step",
                transition_begin=490 * EPOCH,
                transition_steps=10 * EPOCH,
                decay_rate=0.1,
            ),
            train=dict(num_steps=520 * EPOCH, log_every=EPOCH, eval_every=10 * EPOCH, checkpoint_every=10 * EPOCH),
        )
    )
