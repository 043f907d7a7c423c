"""Images are drawn from arrays; people look at what is on them."""

import numpy as np
from PIL import Image

from cnnrnn import plots


def test_curves_draw_every_series(tmp_path):
    series = {
        "loss": {"train": [(10, 2.0), (20, 0.5)], "test": [(20, 0.7)]},
        "accuracy": {"train": [(10, 0.2), (20, 0.9)]},
    }
    plots.curves(series, tmp_path / "curves.png", "a net")
    image = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    for color in plots.COLORS[:2]:
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(image.astype(int) - rgb).max(-1) < 12).sum() > 20


def test_mistakes_show_every_image(tmp_path):
    for channels, names in ((1, ["3", "8"]), (3, ["US$ and C$ notes of every kind", "5_$ off"])):
        images = np.zeros((13, 8, 8, channels), np.uint8)
        images[:, 2:6, 2:6] = 255
        file = tmp_path / f"{channels}.png"
        plots.mistakes(images, [names[0]] * 13, [names[1]] * 13, file, "13 mistakes")
        image = np.asarray(Image.open(file).convert("L"))
        upright = (image < 40).any(0)  # the black backgrounds of two rows of ten: columns of pixels
        assert np.count_nonzero(np.diff(upright.astype(int)) == 1) >= 10
