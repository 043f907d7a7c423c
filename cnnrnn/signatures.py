"""What a constructor takes, read from its source: names, types and ranges, without importing it.

An annotation says what a value may be: the plain types, `X | None`, `tuple[X, ...]`, and the names below, which are
plain types with a range. So a range has one home, the signature, and is checked before anything heavy is imported.
"""

import ast
import difflib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cnnrnn.errors import ConfigError

Count = int  # at least 1
Natural = int  # at least 0
Positive = float  # above 0
NonNegative = float  # at least 0
Fraction = float  # at least 0 and below 1

RANGES = {
    "Count": (int, "a whole number of at least 1", lambda x: x >= 1),
    "Natural": (int, "a whole number of at least 0", lambda x: x >= 0),
    "int": (int, "a whole number", lambda x: True),
    "Positive": (float, "a number above 0", lambda x: x > 0),
    "NonNegative": (float, "a number of at least 0", lambda x: x >= 0),
    "Fraction": (float, "a number of at least 0 and below 1", lambda x: 0 <= x < 1),
    "float": (float, "a finite number", lambda x: True),
}
PACKAGE = Path(__file__).parent


class Parameter(NamedTuple):
    """One parameter of a constructor; `annotation` as it stands in the source, "" if there is none."""

    annotation: str

    def validate(self, field: str, value):
        """The value, as the annotated type.

        Raises:
          ConfigError: it is of another type or out of range.
        """
        return self._first(field, value, _convert)

    def parse(self, field: str, text: str):
        """The value that a text from the command line stands for; 3e2 is a whole number. Errors as in `validate`."""
        return self._first(field, text, lambda kind, text: _convert(kind, _literal(kind, text)))

    def _first(self, field: str, value, convert: Callable):
        """What the first fitting kind makes of a value; None is tried first and text, which takes anything, last."""
        kinds = [part.strip() for part in self.annotation.split("|")]
        for kind in sorted(kinds, key=lambda kind: (kind != "None", kind == "str")):
            try:
                return convert(kind, value)
            except (TypeError, ValueError, OverflowError, SyntaxError):
                pass
        words = {kind: row[1] for kind, row in RANGES.items()} | {"bool": "true or false", "str": "text"}
        raise ConfigError(f"{field} is {value!r} - it takes {' or '.join(words.get(kind, kind) for kind in kinds)}")


def read(module: str, attribute: str) -> dict[str, Parameter]:
    """The parameters of a function, a class with `__init__`, a dataclass or a linen module.

    Args:
      module: a module below the package, "models.lenet5".
      attribute: the function or class in it.

    Returns:
      {name: Parameter}; the key "**" if any other keyword is taken as well.

    Raises:
      ConfigError: there is no such module or attribute.
    """
    file = PACKAGE / f"{module.replace('.', '/')}.py"
    if not file.is_file():
        known = sorted(other.stem for other in file.parent.glob("*.py") if other.stem != "__init__")
        raise ConfigError(f"no module {file.stem} in cnnrnn/{file.parent.name}{did_you_mean(file.stem, known)}")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    public = {
        node.name: node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    }
    if attribute not in public:
        raise ConfigError(f"no {attribute} in cnnrnn/{module.replace('.', '/')}.py{did_you_mean(attribute, [*public])}")
    return _parameters(public[attribute])


def did_you_mean(word: str, known: Sequence[str], otherwise: str | None = None) -> str:
    """The ending of an error line: the nearest of the known words, or all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f" - did you mean {near[0]}?"
    return otherwise if otherwise is not None else f" - there are {', '.join(known) or 'none'}"


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> dict[str, Parameter]:
    if isinstance(node, ast.ClassDef):
        inits = [child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == "__init__"]
        if not inits:
            fields = [child for child in node.body if isinstance(child, ast.AnnAssign)]
            return {field.target.id: Parameter(ast.unparse(field.annotation)) for field in fields}
        node = inits[0]
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    found = {arg.arg: Parameter(ast.unparse(arg.annotation) if arg.annotation else "") for arg in arguments}
    found.pop("self", None)
    return found | ({"**": Parameter("")} if node.args.kwarg else {})


def _literal(kind: str, text: str):
    """The Python value that a text spells; ValueError or SyntaxError if it spells none of this kind."""
    if kind == "str":
        return text
    words = {"none": None, "true": True, "false": False}
    return words[text.lower()] if text.lower() in words else ast.literal_eval(text)


def _convert(kind: str, value):
    """The value as a kind of annotation; ValueError or TypeError if it is none."""
    if kind.startswith("tuple"):
        inner = kind.removeprefix("tuple").strip("[] ").split(",")[0].strip()
        if not isinstance(value, (tuple, list)):
            raise TypeError
        return tuple(_convert(inner, item) if inner else item for item in value)
    if kind in RANGES:
        base, _, inside = RANGES[kind]
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            raise ValueError
        number = base(value)
        if number != value or not inside(number):
            raise ValueError
        return number
    if kind in ("bool", "str") and type(value).__name__ != kind or kind == "None" and value is not None:
        raise TypeError
    return value
