"""Pictures are drawn from arrays; what is in them is looked at by people."""

import numpy as np
from PIL import Image

from cnnrnn import plots


def test_curves_draw_every_series(tmp_path):
    series = {
        "loss": {"train": [(10, 2.0), (20, 0.5)], "test": [(20, 0.7)]},
        "accuracy": {"train": [(10, 0.2), (20, 0.9)]},
    }
    plots.curves(series, tmp_path / "curves.png", "a net")
    picture = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB"))
    for colour in plots.COLOURS[:2]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(picture.astype(int) - rgb).max(-1) < 12).sum() > 20
