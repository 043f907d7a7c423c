"""Images are drawn from arrays; people look at what is on them. Names are drawn as they are, whatever is in them."""

import os
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from cnnrnn import fonts, plots

NAMES = {  # {name: as it is drawn}
    "cost_$5_{x}": "cost_$5_{x}",
    "_\\frac$": "_\\frac$",
    os.fsdecode(b"caf\xe9"): r"caf\xe9",
    "a\n\x1b[2J": r"a\n\x1b[2J",
    "   ": "␣␣␣",
    "\u3000\u200b": "␣␣",
    "العربية": "العربية",
}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn. No warning of matplotlib is ignored."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **k: (figures.append(figure), save(figure, *a, **k)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield figures


def texts(figure: Figure) -> list[str]:
    """All text of a figure. Those that matplotlib reads as markup are left out."""
    return [text.get_text() for text in figure.findobj(Text) if not text.get_parse_math()]


def draw_curves(names: list[str], folder) -> None:
    """Every name as a title, a metric, a split and a reference."""
    for name in names:
        references = {"loss": {name: 0.9}}
        plots.curves({"loss": {name: [(1, 2.0)]}, name: {name: [(1, 0.5)]}}, folder / "c.png", name, name, references)


def draw_gates(names: list[str], folder) -> None:
    """Every name as a token."""
    gates = {gate: np.random.default_rng(0).random((len(names), 5)) for gate in "zh"}
    plots.gates(gates, names, folder / "g.png")


def draw_mistakes(names: list[str], folder) -> None:
    """Every name as a label, a prediction and a title."""
    images = np.zeros((len(names), 4, 4, 1), np.uint8)
    plots.mistakes(images, names, names[::-1], folder / "m.png", names[0])


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


@pytest.mark.parametrize("draw", [draw_curves, draw_gates, draw_mistakes])
def test_no_name_is_markup_or_invisible(tmp_path, capsys, drawn, draw):
    with rc_context({"text.usetex": True, "axes.formatter.use_mathtext": True}):  # as a user's matplotlibrc may say
        draw([*NAMES], tmp_path)
    shown = "\n".join("\n".join(texts(figure)) for figure in drawn)
    for name in NAMES.values():
        assert name in shown, name
    assert capsys.readouterr().err == ""


def test_a_legend_shows_a_name_that_starts_with_an_underscore(tmp_path, drawn):
    draw_curves(["_hidden"], tmp_path)
    for panel, labels in zip(drawn[0].axes, (["_hidden, last 2", "_hidden 0.9"], ["_hidden, last 0.5"]), strict=True):
        assert [text.get_text().strip("\u200e") for text in panel.get_legend().get_texts()] == labels


@pytest.mark.parametrize(
    ("low", "high"), [(1.30, 1.35), (1.3001, 1.3002), (0.9, 9.5), (8, 30), (2, 900), (1e-9, 1e30), (1.3, 1.3)]
)
def test_the_numbers_of_a_logarithmic_axis_can_be_read(tmp_path, drawn, low, high):
    plots.curves({"loss": {"train": [(1, high), (2, low)]}}, tmp_path / "c.png", "a net")
    (panel,) = drawn[0].axes
    assert panel.get_yscale() == "log"
    bottom, top = panel.get_ylim()
    inside = [tick for tick in panel.yaxis.get_major_ticks() if bottom <= tick.get_loc() <= top]
    shown = [tick.label1.get_text().replace("\N{MINUS SIGN}", "-") for tick in inside]
    np.testing.assert_allclose([float(text) for text in shown], [tick.get_loc() for tick in inside], rtol=1e-6)
    assert 2 <= len(shown) == len({*shown}) < 14
    assert not any(text.get_text() for text in panel.get_yticklabels(minor=True))
    extents = sorted(tick.label1.get_window_extent().extents.tolist()[1::2] for tick in inside)
    assert all(top <= bottom for (_, top), (bottom, _) in zip(extents[:-1], extents[1:], strict=True))  # no overlap


@pytest.mark.parametrize("name", ["n" * 300, "W" * 300, "long words " * 30, "\N{PILE OF POO}" * 300, "\x1b" * 300])
@pytest.mark.parametrize("draw", [draw_curves, draw_gates, draw_mistakes])
def test_a_long_name_leaves_room_for_the_picture(tmp_path, drawn, draw, name):
    draw([name, "b"], tmp_path)
    for panel in drawn[0].axes[:2]:
        assert panel.get_position().width > 0.05 and panel.get_position().height > 0.07
    title = drawn[0].get_suptitle()
    assert len(title) < 100 and (not title or title.endswith("\N{HORIZONTAL ELLIPSIS}"))


def make_font(file, family: str, characters: str, style: str = "Regular", side: int = 700) -> str:
    """A font whose glyphs are squares; of side 0 they have no outline."""
    pen = TTGlyphPen(None)
    if side:
        for number, point in enumerate(((0, 0), (0, side), (side, side), (side, 0))):
            (pen.lineTo if number else pen.moveTo)(point)
        pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"u{ord(character):X}" for character in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:], strict=True)})
    font.setupGlyf(dict.fromkeys(names, square))
    font.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": style})
    font.setupOS2(usWeightClass=700 if style == "Bold" else 400)
    font.setupPost()
    font.save(file)
    return str(file)


@pytest.fixture
def install(monkeypatch):
    """Lets font files be the only fonts of the system."""
    known = [*font_manager.fontManager.ttflist]

    def only(files: list[str]) -> None:
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
        fonts.find_fonts.cache_clear()

    yield only
    fonts.find_fonts.cache_clear()
    font_manager.fontManager.ttflist[:] = known


@pytest.mark.parametrize("draw", [draw_curves, draw_gates, draw_mistakes])
def test_characters_that_no_font_has_cost_one_line(tmp_path, capsys, install, drawn, draw):
    install([])
    draw(["\uf8f0\uf8f1"] * 3, tmp_path)  # for private use: no font will ever have them
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(drawn)
    for line in lines:
        assert ".png: no font here has \uf8f0 (U+F8F0) and 1 more - install" in line


def test_a_font_of_the_system_has_what_the_first_one_lacks(tmp_path, capsys, install, drawn):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    made = {"One": "中", "Two": "हाि", "Three": "中ह"}
    unfit = {"bold": dict(style="Bold"), "empty": dict(side=0)}
    files = [make_font(tmp_path / f"{kind}.ttf", kind, "中हाि", **options) for kind, options in unfit.items()]
    files += [make_font(tmp_path / f"{name}.ttf", name, characters) for name, characters in made.items()]
    install([str(tmp_path / "broken.ttf"), *files])
    draw_mistakes(["हा 中", "b"], tmp_path)
    assert capsys.readouterr().err == ""
    families = {tuple(text.get_fontfamily()) for text in drawn[0].findobj(Text)}
    assert families == {("DejaVu Sans", "Two", "One")}  # the font that has most of them first


def test_fonts_are_searched_only_for_what_the_first_one_lacks(tmp_path, capsys, monkeypatch, drawn):
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: 1 / 0)
    draw_mistakes(["é → ␣", "العربية"], tmp_path)
    assert fonts.find_fonts(frozenset("é → ␣")) == (["DejaVu Sans"], frozenset())
