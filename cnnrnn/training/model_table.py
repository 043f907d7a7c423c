"""The table of a model: what each layer makes of its input, its parameters and its arithmetic."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.extend import core
from jax.interpreters import partial_eval


class Row(NamedTuple):
    """One layer: its path in the model, its class, the shape it makes, its parameters, the FLOPs of a forward pass."""

    path: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


def model_rows(model: nn.Module, inputs: tuple) -> list[Row]:
    """A row for every layer that contains no other, in the order in which they are called, and one for what is left.

    A multiplication with its addition is 2 FLOP; only matrix products and convolutions are counted. What is left are
    parameters and products of modules that contain others.

    Args:
      model: a linen module whose call takes `train`.
      inputs: its positional arguments (arrays or their shapes), one example.
    """
    calls: dict[tuple[str, ...], list] = {}

    def watch(call, args, kwargs, context):
        entry = calls.setdefault(context.module.path, [type(context.module).__name__, None])
        output = call(*args, **kwargs)
        entry[1] = output if context.method_name == "__call__" or entry[1] is None else entry[1]
        return output

    key = jax.random.key(0)
    with nn.intercept_methods(watch):
        variables = jax.eval_shape(lambda *x: model.init(key, *x, train=False), *inputs)
    jaxpr = jax.make_jaxpr(lambda v, *x: model.apply(v, *x, train=False))(variables, *inputs)
    layers = {
        path: call
        for path, call in calls.items()
        if path and not any(len(p) > len(path) and p[: len(path)] == path for p in calls)
    }
    flops = dict.fromkeys([*layers, None], 0)
    needed, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))  # gates that nobody asks for go
    for scope, count in _products(needed, ()):
        flops[max((path for path in layers if _contains(scope, path)), key=len, default=None)] += count
    rows = [
        Row(".".join(path), kind, _shape(output), _size(variables["params"], path), flops[path])
        for path, (kind, output) in layers.items()
    ]
    rest = _size(variables["params"], ()) - sum(row.parameters for row in rows)
    return rows + ([Row("(rest)", "", (), rest, flops[None])] if rest or flops[None] else [])


def format_rows(rows: list[Row]) -> str:
    """The rows as text, with a line of sums."""
    table = [("layer", "kind", "output", "parameters", "FLOPs")]
    table += [(r.path, r.kind, " x ".join(map(str, r.shape[1:])), f"{r.parameters:,}", f"{r.flops:,}") for r in rows]
    table += [("total", "", "", f"{sum(r.parameters for r in rows):,}", f"{sum(r.flops for r in rows):,}")]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0].rstrip(), rule, *lines[1:-1], rule, lines[-1]])


def _products(jaxpr: core.Jaxpr, scope: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """(module path, FLOPs) of every product and convolution in a jaxpr; the body of a scan counts once a step."""
    for equation in jaxpr.eqns:
        stack = str(equation.source_info.name_stack)
        here = scope + tuple(stack.split("/") if stack else ())
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield here, 2 * _multiplications(equation)
        if equation.primitive.name == "rnn_fwd":
            yield here, _flops_of_cudnn(equation)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in _inner(equation.params):
            for owner, count in _products(inner, here):
                yield owner, count * times


def _multiplications(equation: Any) -> int:
    outputs = math.prod(equation.outvars[0].aval.shape)
    shape = equation.invars[0].aval.shape
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return outputs * math.prod(shape[axis] for axis in contracted)
    kernel = equation.invars[1].aval.shape
    out_channel = equation.params["dimension_numbers"].rhs_spec[0]
    return outputs * math.prod(kernel) // kernel[out_channel]


def _flops_of_cudnn(equation: Any) -> int:
    (batch_size, num_steps, _), of = equation.invars[0].aval.shape, equation.params
    ways, hidden_size = 1 + of["bidirectional"], of["hidden_size"]
    return 2 * batch_size * num_steps * ways * 4 * hidden_size * (of["input_size"] + hidden_size)


def _inner(parameters: dict) -> Iterator[core.Jaxpr]:
    for value in parameters.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part


def _contains(scope: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Whether the names of a path stand in a scope in their order."""
    names = iter(scope)
    return all(name in names for name in path)


def _shape(output: Any) -> tuple[int, ...]:
    leaves = jax.tree.leaves(output)
    return getattr(leaves[0], "shape", ()) if leaves else ()


def _size(params: Any, path: tuple[str, ...]) -> int:
    for name in path:
        params = params.get(name, {})
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
