"""What a constructor takes is read from its source, and values are held to it."""

import ast
import importlib
import inspect

import pytest

from cnnrnn import signatures
from cnnrnn.errors import ConfigError
from cnnrnn.signatures import Parameter


def test_reads_functions_modules_and_dataclasses():
    assert signatures.read("models.convnet", "ConvNet")["features"].annotation == "tuple[Count, ...]"
    assert [*signatures.read("tasks.classification", "Classification")][:3] == ["mean", "std", "rubbish"]
    optim = signatures.read("optim", "make_optimizer")
    assert optim["learning_rate"].annotation == "NonNegative" and "**" in optim


def test_agrees_with_the_imported_signature():
    from cnnrnn.training.loop import fit

    parameters = inspect.signature(fit).parameters.values()
    assert [*signatures.read("training.loop", "fit")] == [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]


def test_every_annotation_of_every_constructor_is_understood():
    """A value of the right kind is taken: the defaults are."""
    checked = 0
    for room in ("models", "tasks", "data"):
        for file in (signatures.PACKAGE / room).glob("*.py"):
            for node in ast.parse(file.read_text()).body:
                if not is_constructor(room, node):
                    continue
                name, checked = node.name, checked + 1
                module = importlib.import_module(f"cnnrnn.{room}.{file.stem}")
                defaults = inspect.signature(getattr(module, name)).parameters
                for field, parameter in signatures.read(f"{room}.{file.stem}", name).items():
                    default = defaults[field].default
                    if default is not inspect.Parameter.empty:
                        assert parameter.validate(field, default) == default
    assert checked >= 16


def is_constructor(room: str, node: ast.AST) -> bool:
    """Whether a config may name it: models and tasks are classes, data sets functions that begin with a seed."""
    if getattr(node, "name", "_").startswith("_"):
        return False
    if room == "data":
        return isinstance(node, ast.FunctionDef) and [a.arg for a in node.args.args[:1]] == ["seed"]
    return isinstance(node, ast.ClassDef) and ast.unparse(node.bases[0]) in ("nn.Module", "Task")


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("Count", "3e2", 300),
        ("Count | None", "None", None),
        ("Count | None", "7", 7),
        ("Positive", "1e-3", 0.001),
        ("float", "1", 1.0),
        ("NonNegative", "0", 0.0),
        ("bool", "true", True),
        ("bool", "False", False),
        ("str", "1998", "1998"),
        ("str | None", "1998", "1998"),
        ("str | None", "none", None),
        ("tuple[float, ...]", "(1,2)", (1.0, 2.0)),
        ("tuple[Count, ...]", "[4, 8]", (4, 8)),
        ("tuple[int, int]", "3,5", (3, 5)),
        ("int", "-3", -3),
        ("Fraction", "0.5", 0.5),
        ("Literal['jit', 'pmap']", "pmap", "pmap"),
        ("None | bool | int | float | str", "0.9", 0.9),
        ("None | bool | int | float | str", "true", True),
        ("None | bool | int | float | str", "word", "word"),
    ],
)
def test_parses(annotation, text, value):
    parsed = Parameter(annotation).parse("field", text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        ("Count", "0"), ("Count", "-5"), ("Count", "2.5"), ("Count", "True"), ("Count", "many"), ("Count", "nan"),
        ("Count", "None"),
        ("Positive", "0"), ("Positive", "nan"), ("Positive", "inf"), ("Positive", "1e999"), ("NonNegative", "-0.1"),
        ("Fraction", "1"), ("bool", "1"), ("bool", "yes"), ("tuple[Count, ...]", "3"), ("tuple[Count, ...]", "(1, 0)"),
        ("tuple[int, int]", "(1, 2, 3)"), ("Literal['jit', 'pmap']", "xmap"), ("Seed", "-1"), ("Optional[Count]", "3"),
    ],
)  # fmt: skip
def test_refuses(annotation, text):
    with pytest.raises(ConfigError, match="^section.field is .* - it takes "):
        Parameter(annotation).parse("section.field", text)


def test_did_you_mean():
    assert signatures.did_you_mean("momentun", ["momentum", "name"]) == " - did you mean momentum?"
    assert signatures.did_you_mean("zzz", ["a", "b"]) == " - there are a, b"
