"""Fonts for the names in a picture: what DejaVu Sans lacks is drawn in another font of the system."""

import functools
import unicodedata
from pathlib import Path

from cnnrnn.command import note

FONT = "DejaVu Sans"  # matplotlib brings it


def choose_fonts(figure, file: Path) -> None:
    """Gives every text of a figure the fonts that have its characters. One line says if no font has one of them."""
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    families, missing = find_fonts(frozenset("".join(text.get_text() for text in texts)))
    for text in texts:
        text.set_fontfamily(families)
    if missing:
        first = min(missing)
        named = f"{first} ({unicodedata.name(first, f'U+{ord(first):04X}')})"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        note(f"{file.name}: no font here has {named}{more} - install one that has, such as Noto")


@functools.cache
def find_fonts(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The families that together have the characters, DejaVu Sans first, and the characters that no font has.

    The other fonts are opened only for characters that DejaVu Sans lacks. That takes a second where there are many.
    """
    from matplotlib import font_manager

    visible = {c for c in characters if not c.isspace() and unicodedata.category(c) != "Cf"}
    missing = visible - _glyphs(font_manager.findfont(FONT), visible)
    # the files, not matplotlib's list, which is older than a font that was installed since
    found = {file: _glyphs(file, missing) for file in font_manager.findSystemFonts()} if missing else {}
    families = [FONT]
    while missing & set().union(*found.values()):
        best = max(found, key=lambda file: len(found[file] & missing))
        font_manager.fontManager.addfont(best)
        families.append(font_manager.get_font(best).family_name)
        missing -= found[best]
    return families, frozenset(missing)


def _glyphs(file: str, characters: set[str]) -> set[str]:
    """The characters that a font has an outline for. A font that is bold, slanted or made of bitmaps has none."""
    from matplotlib.font_manager import ttfFontProperty
    from matplotlib.ft2font import FT2Font

    def has_outline(character: str) -> bool:  # a font of colored emoji may have an empty one
        font.load_char(ord(character))
        return len(font.get_path()[0]) > 0

    try:
        font = FT2Font(file)
        properties = ttfFontProperty(font)
        if properties.style != "normal" or not 400 <= properties.weight <= 500:
            return set()
        return {c for c in characters if font.get_char_index(ord(c)) and has_outline(c)}
    except (OSError, RuntimeError, NotImplementedError):  # it cannot be read, or scaled
        return set()
