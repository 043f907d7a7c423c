"""The four-layer net of the AlexNet paper on CIFAR-10, with local response normalisation or without.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012,
  section 3.3: test error 11 % with normalisation, 13 % without. It names cuda-convnet for the rest, where
  layers-cifar10-11pct.cfg and layer-params-cifar10-11pct.cfg have the layers, the rates and the method: windows of 24
  pixels, mirrored half of the times, raw pixels less their mean; some 350 passes over four fifths of the training set,
  150 over all of it, and 10 each with a tenth and a hundredth of the rate; the mean over ten windows is tested.
  Here all passes are over all of the set, the mean is one of each colour and not one of each pixel, biases learn at the
  rate of the weights and not at twice that, and every kernel decays by 0.004 where theirs decay by 0 (convolutions),
  0.004 (locally connected) and 0.01 (the last layer).
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
            data=dict(name="images.cifar10", batch_size=128, data_dir=None, manual_dir=None),
            optim=dict(
                name="sgd",
                learning_rate=0.001,
                momentum=0.9,
                weight_decay=0.004,
                schedule="staircase",
                flat_steps=500 * EPOCH,
                decay_every=10 * EPOCH,
                decay_factor=0.1,
            ),
            train=dict(num_steps=520 * EPOCH, log_every=EPOCH, eval_every=10 * EPOCH, checkpoint_every=10 * EPOCH),
        )
    )
