"""The fields of a config are read from signatures, and their values are checked against the annotations."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Annotated, Any, Literal

import flax.linen as nn
import pytest

import cnnrnn
from cnnrnn import signatures
from cnnrnn.errors import ConfigError
from cnnrnn.signatures import (
    NonNegativeFloat,
    NonNegativeInt,
    Parameter,
    Plain,
    PositiveFloat,
    PositiveInt,
    Range,
    Rate,
    Resumable,
    Seed,
)


def make(steps: int, *, rate: Rate, name: str = "a", every: Resumable[PositiveInt | None] = None, **rest: Any):
    """A constructor of which the program gives the steps."""


class Small(nn.Module):
    size: PositiveInt
    activation: Callable = nn.relu


class Large(Small):
    depth: Resumable[PositiveInt] = 3


@dataclasses.dataclass(frozen=True)
class Named:
    name: str
    parent: int = 1


def test_of_a_function_the_keyword_only_parameters_are_read():
    parameters = signatures.read(make)
    assert [*parameters] == ["rate", "name", "every", "**"]
    assert [name for name, parameter in parameters.items() if parameter.required] == ["rate"]
    assert [name for name, parameter in parameters.items() if parameter.resumable] == ["every"]


def test_of_a_linen_module_all_fields_are_read():
    parameters = signatures.read(Large)
    assert [*parameters] == ["size", "activation", "depth"]
    assert parameters["depth"].resumable and not parameters["size"].resumable
    assert parameters["size"].is_settable and not parameters["activation"].is_settable


def test_a_dataclass_may_have_fields_called_name_and_parent():
    assert [*signatures.read(Named)] == ["name", "parent"]


def test_a_parameter_without_annotation_takes_any_plain_value():
    def constructor(*, size, more: Any = None): ...

    for parameter in signatures.read(constructor).values():
        assert parameter.parse("f", "3") == 3 and parameter.parse("f", "(1,2)") == (1, 2)
        assert parameter.validate("f", "word") == "word"


def test_annotations_may_be_written_as_text():
    def constructor(*, size: "PositiveInt"): ...

    with pytest.raises(ConfigError, match="at least 1"):
        signatures.read(constructor)["size"].parse("size", "0")


def test_agrees_with_the_signature_of_the_loop():
    from cnnrnn.training.loop import fit

    parameters = inspect.signature(fit).parameters.values()
    assert [*signatures.read(fit)] == [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    assert signatures.read(fit)["num_steps"] == Parameter(Resumable[PositiveInt], required=True)


def constructors() -> list[Callable]:
    """All that a config may name: models, tasks, functions of data sets that begin with a seed, and the optimizer."""
    from cnnrnn.optim.optimizer import make_optimizer
    from cnnrnn.tasks.task import Task

    found = [make_optimizer]
    for package in ("models", "tasks", "data"):
        for module in pkgutil.walk_packages([f"{cnnrnn.__path__[0]}/{package}"], f"cnnrnn.{package}."):
            module = importlib.import_module(module.name)
            for name, value in vars(module).items():
                if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                    continue
                if package == "data":
                    is_one = inspect.isfunction(value) and [*inspect.signature(value).parameters][:1] == ["seed"]
                else:
                    is_one = inspect.isclass(value) and issubclass(value, (nn.Module, Task)) and value is not Task
                found += [value] if is_one else []
    return found


def test_every_annotation_of_every_constructor_is_understood():
    """A value of the right type is accepted: the defaults are."""
    found = constructors()
    assert len(found) >= 17
    for constructor in found:
        defaults = inspect.signature(constructor).parameters
        for field, parameter in signatures.read(constructor).items():
            if field == "**" or (field in ("model", "info") and "tasks" in constructor.__module__):
                continue
            assert parameter.is_settable, (constructor, field)
            default = defaults[field].default
            if default is not inspect.Parameter.empty:
                assert parameter.validate(field, default) == default


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (PositiveInt, "3e2", 300),
        (PositiveInt | None, "None", None),
        (PositiveInt | None, "7", 7),
        (PositiveFloat, "1e-3", 0.001),
        (float, "1", 1.0),
        (NonNegativeFloat, "0", 0.0),
        (NonNegativeInt, "0", 0),
        (bool, "true", True),
        (bool, "False", False),
        (str, "1998", "1998"),
        (str | None, "1998", "1998"),
        (str | None, "none", None),
        (tuple[float, ...], "(1,2)", (1.0, 2.0)),
        (tuple[PositiveInt, ...], "[4, 8]", (4, 8)),
        (tuple[PositiveInt, ...], "()", ()),
        (tuple[int, int], "3,5", (3, 5)),
        (tuple[float, ...], "0.5", (0.5,)),  # the item of a tuple of one
        (tuple[float], "3e2", (300.0,)),
        (tuple[PositiveInt, ...] | None, "3", (3,)),
        (tuple[str, ...], "kernel", ("kernel",)),
        (tuple[tuple[str, NonNegativeFloat], ...], "('fc', 2)", (("fc", 2.0),)),
        (Resumable[tuple[PositiveFloat, ...]], "0.1", (0.1,)),
        (float | tuple[float, ...], "0.5", 0.5),
        (str | tuple[str, ...], "kernel", "kernel"),
        (tuple[tuple[str, NonNegativeFloat], ...], "(('*/bias', 2), ('fc', 0.5))", (("*/bias", 2.0), ("fc", 0.5))),
        (tuple[PositiveInt, PositiveInt] | None, "None", None),
        (int, "-3", -3),
        (Rate, "0.5", 0.5),
        (Literal["jit", "pmap"], "pmap", "pmap"),
        (Literal["jit", "pmap"] | None, "none", None),
        (Literal[1, 2], "2", 2),
        (Annotated[int, Range(high=3)], "3", 3),
        (Annotated[PositiveInt, Range(high=3)], "3", 3),
        (Annotated[PositiveInt, "documentation"], "3", 3),
        (Resumable[PositiveInt], "3e2", 300),
        (Resumable[PositiveInt | None], "None", None),
        (Resumable[tuple[PositiveInt, ...]], "(3,)", (3,)),
        (None | bool | int | float | str, "0.9", 0.9),
        (None | bool | int | float | str, "true", True),
        (None | bool | int | float | str, "word", "word"),
        (Plain, "(1, 'a')", (1, "a")),
        (Callable | None, "None", None),
    ],
)
def test_parses(annotation, text, value):
    parsed = Parameter(annotation).parse("field", text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (PositiveInt, "0"), (PositiveInt, "-5"), (PositiveInt, "2.5"), (PositiveInt, "True"), (PositiveInt, "many"),
        (PositiveInt, "nan"), (PositiveInt, "None"), (NonNegativeInt, "-1"),
        (PositiveFloat, "0"), (PositiveFloat, "nan"), (PositiveFloat, "inf"), (PositiveFloat, "1e999"),
        (NonNegativeFloat, "-0.1"), (float, "nan"),
        (Rate, "1"), (bool, "1"), (bool, "yes"), (tuple[PositiveInt, ...], "0"), (tuple[PositiveInt, ...], "(1, 0)"),
        (tuple[int, int], "(1, 2, 3)"), (tuple[int, int], "1"), (tuple[float, ...], "none"), (tuple[float], "1,2"),
        (tuple[tuple[str, NonNegativeFloat], ...], "(('fc', -2),)"),
        (Literal["jit", "pmap"], "xmap"), (Literal[1, 2], "True"), (Seed, "-1"), (Seed, "4294967296"),
        (Annotated[int, Range(high=3)], "4"), (Annotated[PositiveInt, Range(high=3)], "0"),
        (Resumable[PositiveInt], "0"), (Callable, "relu"), (nn.Module, "3"), (dict[str, int], "{}"),
    ],
)  # fmt: skip
def test_refuses(annotation, text):
    with pytest.raises(ConfigError, match=r"^section.field is .* - it takes "):
        Parameter(annotation).parse("section.field", text)


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (Seed, -1, "field is -1 - it takes a whole number from 0 to 4294967295"),
        (PositiveInt, 0, "field is 0 - it takes a whole number of at least 1"),
        (int, 0.5, "field is 0.5 - it takes a whole number"),
        (PositiveFloat, 0, "field is 0 - it takes a number above 0"),
        (Rate, 1, "field is 1 - it takes a number of at least 0 and below 1"),
        (float, "a", "field is 'a' - it takes a finite number"),
        (bool, 1, "field is 1 - it takes true or false"),
        (str, True, "field is True - it takes text"),
        (PositiveInt | None, 0, "field is 0 - it takes a whole number of at least 1 or None"),
        (Literal["jit", "pmap"], "x", "field is 'x' - it takes 'jit', 'pmap'"),
        (tuple[PositiveInt, ...], 0, "field is 0 - it takes a tuple such as (1,)"),
        (tuple[int, int] | None, 3, "field is 3 - it takes a tuple such as (1, 1) or None"),
        (tuple[tuple[str, float], ...], 3, "field is 3 - it takes a tuple such as (('name', 0.5),)"),
        (Annotated[int, Range(2, 8, False)], 2, "field is 2 - it takes a whole number above 2 and of at most 8"),
        (nn.Module | None, 3, "field is 3 - it takes None or flax.linen.module.Module, which no config can contain"),
    ],
)  # fmt: skip
def test_says_what_a_field_takes(annotation, value, words):
    with pytest.raises(ConfigError) as raised:
        Parameter(annotation).validate("field", value)
    assert str(raised.value) == words


def test_did_you_mean():
    assert signatures.did_you_mean("momentun", ["momentum", "name"]) == " - did you mean momentum?"
    assert signatures.did_you_mean("zzz", ["a", "b"]) == " - there are a, b"
    assert signatures.did_you_mean("zzz", ["a", "b"], otherwise=" - write a") == " - write a"
