"""The fields of a config, read from the signatures of the constructors that take them: names, types, ranges.

The annotation of a parameter says what a config may give it, and whether that may change when a run is resumed:
`num_steps: Resumable[PositiveInt]`.
"""

import ast
import contextlib
import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union

from cnnrnn.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers.

    Attributes:
      low, high: its ends.
      includes_low, includes_high: whether the ends belong to it.
    """

    low: float = -math.inf
    high: float = math.inf
    includes_low: bool = True
    includes_high: bool = True

    def __contains__(self, number: float) -> bool:
        is_above = number >= self.low if self.includes_low else number > self.low
        return is_above and (number <= self.high if self.includes_high else number < self.high)

    def __str__(self) -> str:
        low = f"{'of at least' if self.includes_low else 'above'} {self.low}" if self.low > -math.inf else ""
        high = f"{'of at most' if self.includes_high else 'below'} {self.high}" if self.high < math.inf else ""
        if low and high and self.includes_low and self.includes_high:
            return f"from {self.low} to {self.high}"
        return " and ".join(filter(None, (low, high)))


Seed = Annotated[int, Range(low=0, high=2**32 - 1)]
PositiveInt = Annotated[int, Range(low=1)]
NonNegativeInt = Annotated[int, Range(low=0)]
PositiveFloat = Annotated[float, Range(low=0, includes_low=False)]
NonNegativeFloat = Annotated[float, Range(low=0)]
Rate = Annotated[float, Range(low=0, high=1, includes_high=False)]

RESUMABLE = "may change when a run is resumed"
T = TypeVar("T")
Resumable = Annotated[T, RESUMABLE]

Plain = None | bool | int | float | str | tuple[None | bool | int | float | str, ...]  # without an annotation
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "None"}
EXAMPLES = {int: 1, float: 0.5, bool: True, str: "name", type(None): None}


class Parameter(NamedTuple):
    """One parameter of a constructor.

    Attributes:
      annotation: int, float, bool, str, None, `Literal`, `tuple[X, ...]`, `tuple[X, Y]`, unions of these, and
        `Annotated` with a `Range`. Values of any other type are refused. For a tuple of one its item may be given.
      required: whether it has no default.
    """

    annotation: Any
    required: bool = False

    @property
    def resumable(self) -> bool:
        """Whether its value may change when a run is resumed."""
        return _is_marked(self.annotation)

    @property
    def is_settable(self) -> bool:
        """Whether a config can contain a value of it."""
        return any(_is_known(kind) and kind is not type(None) for kind in _alternatives(self.annotation))

    def validate(self, field: str, value: Any) -> Any:
        """The value as the annotated type.

        Args:
          field: the name of the parameter in an error.
          value: of a config.

        Raises:
          ConfigError: it has another type or is out of range.
        """
        return self._convert(field, value, _convert)

    def parse(self, field: str, text: str) -> Any:
        """The value of a text from the command line; 3e2 is a whole number. Raises as `validate` does."""
        return self._convert(field, text, lambda kind, text: _convert(kind, _literal(kind, text)))

    def _convert(self, field: str, value: Any, convert: Callable[[Any, Any], Any]) -> Any:
        try:
            return _first_fit(self.annotation, value, convert)
        except ValueError:
            kinds = sorted(_alternatives(self.annotation), key=_is_known, reverse=True)
            words = " or ".join(map(_describe, kinds))
            raise ConfigError(f"{field} is {value!r} - it takes {words}") from None


def read(constructor: Callable) -> dict[str, Parameter]:
    """The parameters of a constructor that a config may give.

    Args:
      constructor: a function, of which these are the keyword-only parameters: the program gives the others. Or a
        dataclass or linen module, of which these are all fields, inherited ones too.

    Returns:
      {name: Parameter}; the key "**" if any other keyword is accepted.
    """
    is_class, found = inspect.isclass(constructor), {}
    for name, parameter in inspect.signature(constructor, eval_str=True).parameters.items():
        annotation = Plain if parameter.annotation in (parameter.empty, Any) else parameter.annotation
        if parameter.kind is parameter.VAR_KEYWORD:
            found["**"] = Parameter(Plain)
        elif is_class and not (name in ("parent", "name") and _is_linen(constructor)):
            found[name] = Parameter(annotation)  # never required: the program may give it
        elif not is_class and parameter.kind is parameter.KEYWORD_ONLY:
            found[name] = Parameter(annotation, parameter.default is parameter.empty)
    return found


def is_near(word: str, known: Sequence[str]) -> bool:
    """Whether a word looks like a misspelling of a known one."""
    return bool(difflib.get_close_matches(word, known, n=1, cutoff=0.87))


def did_you_mean(word: str, known: Sequence[str], otherwise: str | None = None) -> str:
    """The end of an error line: the nearest of the known words, or all of them.

    Args:
      word: what was written.
      known: what may be written.
      otherwise: the end of the line if no known word is near; None lists them.
    """
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f" - did you mean {near[0]}?"
    return otherwise if otherwise is not None else f" - there are {', '.join(known) or 'none'}"


def _is_linen(constructor: type) -> bool:
    return any(base.__module__.startswith("flax.linen") for base in constructor.__mro__)


def _is_marked(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return any(map(_is_marked, typing.get_args(annotation)))
    return RESUMABLE in getattr(annotation, "__metadata__", ())


def _alternatives(annotation: Any) -> list:
    """The types of a union, each with its ranges. Other marks are removed."""
    if typing.get_origin(annotation) is Annotated and not _ranges(annotation):
        return _alternatives(annotation.__origin__)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in typing.get_args(annotation) for kind in _alternatives(part)]
    return [type(None) if annotation is None else annotation]


def _is_known(kind: Any) -> bool:
    """Whether a config can contain a value of a type."""
    return typing.get_origin(_base(kind)) in (tuple, Literal) or _base(kind) in WORDS


def _ranges(kind: Any) -> list[Range]:
    return [mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, Range)]


def _base(kind: Any) -> Any:
    return kind.__origin__ if typing.get_origin(kind) is Annotated else kind


def _describe(kind: Any) -> str:
    base, ranges = _base(kind), _ranges(kind)
    if typing.get_origin(base) is Literal:
        return ", ".join(map(repr, typing.get_args(base)))
    if typing.get_origin(base) is tuple:
        return f"a tuple such as {_example(base)!r}"
    if not _is_known(kind):
        return f"{inspect.formatannotation(base)}, which no config can contain"
    if base is float and not ranges:
        return "a finite number"
    return " ".join([WORDS[base], " and ".join(map(str, ranges))]).strip()


def _example(annotation: Any) -> Any:
    """A value of the first of the types, for an error."""
    base = _base(_alternatives(annotation)[0])
    if typing.get_origin(base) is tuple:
        return tuple(_example(part) for part in typing.get_args(base) if part is not ...)
    return typing.get_args(base)[0] if typing.get_origin(base) is Literal else EXAMPLES.get(base)


def _literal(kind: Any, text: str) -> Any:
    """The Python value that a text spells; ValueError or SyntaxError if it spells none of this type."""
    base = _base(kind)
    if typing.get_origin(base) is Literal:
        return {str(value): value for value in typing.get_args(base)}.get(text, text)
    if base is str:
        return text
    words = {"none": None, "true": True, "false": False}
    return words[text.lower()] if text.lower() in words else ast.literal_eval(text)


def _first_fit(annotation: Any, value: Any, convert: Callable[[Any, Any], Any]) -> Any:
    """The value as the first of the types that it fits. None is tried first, and text, which fits all, last.

    A value that fits none may be the only item of a tuple.
    """
    kinds = sorted(_alternatives(annotation), key=lambda kind: (kind is not type(None), kind is str))
    for kind in kinds:
        with contextlib.suppress(TypeError, ValueError, OverflowError, SyntaxError):
            return convert(kind, value)
    for item in [] if isinstance(value, (tuple, list)) else filter(None, map(_item, kinds)):
        with contextlib.suppress(ValueError):
            return (_first_fit(item, value, convert),)
    raise ValueError(f"{value!r} does not fit {annotation}")


def _item(kind: Any) -> Any:
    """The type of the item if the kind is a tuple that may have one item, else None."""
    parts = typing.get_args(_base(kind))
    return parts[0] if typing.get_origin(_base(kind)) is tuple and parts[1:] in ((), (...,)) else None


def _convert(kind: Any, value: Any) -> Any:
    """The value as one type; TypeError, ValueError or OverflowError if it is none."""
    base = _base(kind)
    if base in (int, float):
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            raise ValueError("not a finite number")
        number = base(value)
        if number != value or not all(number in limits for limits in _ranges(kind)):
            raise ValueError("out of range")
        return number
    if typing.get_origin(base) is tuple:
        parts = typing.get_args(base)
        if not isinstance(value, (tuple, list)):
            raise TypeError("not a tuple")
        parts = parts[:1] * len(value) if parts[-1:] == (...,) else parts
        return tuple(_first_fit(part, item, _convert) for part, item in zip(parts, value, strict=True))
    if typing.get_origin(base) is Literal:
        if not any(value == known and type(value) is type(known) for known in typing.get_args(base)):
            raise ValueError("not one of the literals")
    elif base not in WORDS or type(value) is not base:
        raise TypeError("of another type")
    return value
