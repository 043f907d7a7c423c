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

Seed = int  # 32 bits
Count = int  # at least 1
Natural = int  # at least 0
Positive = float  # above 0
NonNegative = float  # at least 0
Fraction = float  # at least 0 and below 1

RANGES = {
    "Seed": (int, "a whole number from 0 to 4294967295", lambda x: 0 <= x < 2**32),
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
    """One parameter of a constructor: its annotation as it stands in the source, and whether it has no default."""

    annotation: str
    required: bool = False

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
        words |= {kind: "a tuple such as (1,)" for kind in kinds if kind.startswith("tuple[")}
        names = [words.get(kind, kind.removeprefix("Literal").strip("[]")) for kind in kinds]
        raise ConfigError(f"{field} is {value!r} - it takes {' or '.join(names)}")


def read(module: str, attribute: str) -> dict[str, Parameter]:
    """What a config may give a function, a dataclass or a linen module.

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


def is_near(word: str, known: Sequence[str]) -> bool:
    """Whether a word looks like a misspelling of a known one."""
    return bool(difflib.get_close_matches(word, known, n=1, cutoff=0.75))


def did_you_mean(word: str, known: Sequence[str], otherwise: str | None = None) -> str:
    """The ending of an error line: the nearest of the known words, or all of them."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f" - did you mean {near[0]}?"
    return otherwise if otherwise is not None else f" - there are {', '.join(known) or 'none'}"


def _parameters(node: ast.FunctionDef | ast.ClassDef) -> dict[str, Parameter]:
    """The fields of a class, or of a function what stands behind its `*`: what stands before it the program gives."""
    if isinstance(node, ast.ClassDef):
        fields = [child for child in node.body if isinstance(child, ast.AnnAssign)]
        return {field.target.id: Parameter(ast.unparse(field.annotation)) for field in fields}
    found = {
        argument.arg: Parameter(ast.unparse(argument.annotation), required=default is None)
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    }
    return found | ({"**": Parameter("")} if node.args.kwarg else {})


def _literal(kind: str, text: str):
    """The Python value that a text spells; ValueError or SyntaxError if it spells none of this kind."""
    if kind == "str" or kind.startswith("Literal["):
        return text
    words = {"none": None, "true": True, "false": False}
    return words[text.lower()] if text.lower() in words else ast.literal_eval(text)


def _convert(kind: str, value):
    """The value as a kind of annotation; ValueError or TypeError if it is none."""
    if kind in RANGES:
        base, _, inside = RANGES[kind]
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            raise ValueError
        number = base(value)
        if number != value or not inside(number):
            raise ValueError
        return number
    if kind.startswith("tuple["):
        inner = [part.strip() for part in kind.removeprefix("tuple[").removesuffix("]").split(",")]
        inner = inner[:1] * len(value) if inner[-1] == "..." else inner
        if not isinstance(value, (tuple, list)):
            raise TypeError
        return tuple(_convert(part, item) for part, item in zip(inner, value, strict=True))
    if kind.startswith("Literal["):
        fits = value in ast.literal_eval(kind.removeprefix("Literal"))
    else:
        fits = type(value).__name__ == {"None": "NoneType"}.get(kind, kind)
    if not fits:
        raise TypeError
    return value
