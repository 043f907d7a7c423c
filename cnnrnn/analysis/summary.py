"""The summary of a model: the output shape, the parameters and the FLOPs of each layer."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.extend import core
from jax.interpreters import partial_eval

Path = tuple[str, ...]
OPERATIONS = {"rnn_fwd": "cudnn", "native_loop_forward": "native"}  # that run a recurrent layer over all steps


class Row(NamedTuple):
    """One layer.

    Attributes:
      path: of the layer in the model, such as "layers.layer1".
      type: the name of the layer's class, and what runs it if that is one operation for all steps.
      shape: of the layer's output.
      parameters: the number of parameters.
      flops: of a forward pass.
    """

    path: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


def summarize(model: nn.Module, args: tuple, kwargs: dict | None = None) -> list[Row]:
    """A row for each layer that contains no other layer, in the order of the calls, and a row "(rest)".

    A multiplication with its addition is 2 FLOPs. Only matrix products and convolutions are counted. The row "(rest)"
    has the parameters and products that belong to no such layer.

    Args:
      model: a linen module.
      args, kwargs: of its call on one example: arrays or their shapes, and anything else.
    """
    calls, call = {}, _Call(model, args, kwargs or {})

    def record(next_call, args, kwargs, context):
        module = context.module
        entry = calls.setdefault(module.path, [type(module).__name__, None])
        output = next_call(*args, **kwargs)
        entry[1] = output if context.method_name == "__call__" or entry[1] is None else entry[1]
        return output

    with nn.intercept_methods(record):
        variables = jax.eval_shape(call.init, call.shapes)
    layers = {path: row for path, row in calls.items() if path and not any(_is_inside(p, path) for p in calls)}
    flops, operations = dict.fromkeys([*layers, None], 0), {}
    jaxpr = jax.make_jaxpr(call.apply)(variables, call.shapes).jaxpr
    for scope, count, operation in _flops_by_scope(_pruned(jaxpr)):
        owner = max((path for path in layers if _contains(scope, path)), key=len, default=None)
        flops[owner] += count
        if operation in OPERATIONS:
            operations[owner] = f" ({OPERATIONS[operation]})"
    rows = [
        Row(
            ".".join(path),
            name + operations.get(path, ""),
            _shape(output),
            _size(variables["params"], path),
            flops[path],
        )
        for path, (name, output) in layers.items()
    ]
    rest = _size(variables["params"], ()) - sum(row.parameters for row in rows)
    return rows + ([Row("(rest)", "", (), rest, flops[None])] if rest or flops[None] else [])


def find_call(model: nn.Module, init: Callable[[], Any]) -> tuple[tuple, dict]:
    """The arguments with which a function calls a model, for `summarize`."""
    found = []

    def record(next_call, args, kwargs, context):
        is_call = context.module.path == () and context.method_name == "__call__"
        if is_call and type(context.module) is type(model):
            found.append(jax.tree.map(_as_shape, (args, kwargs)))
        return next_call(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(init)
    return found[0]


def format_rows(rows: list[Row]) -> str:
    """The rows as text, with a line of sums."""
    table = [("layer", "type", "output", "parameters", "FLOPs")]
    table += [(r.path, r.type, " x ".join(map(str, r.shape[1:])), f"{r.parameters:,}", f"{r.flops:,}") for r in rows]
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


def count_flops(jaxpr: core.Jaxpr) -> int:
    """FLOPs of the products and convolutions that the outputs of a program depend on."""
    return sum(count for _, count, _ in _flops_by_scope(_pruned(jaxpr)))


class _Call:
    """A call of a model, as functions of the arrays among its arguments."""

    def __init__(self, model: nn.Module, args: tuple, kwargs: dict):
        self._model = model
        self._leaves, self._structure = jax.tree.flatten((args, kwargs))
        self.shapes = [_as_shape(leaf) for leaf in self._leaves if hasattr(leaf, "shape")]

    def init(self, arrays: list) -> dict:
        args, kwargs = self._arguments(arrays)
        return self._model.init(jax.random.key(0), *args, **kwargs)

    def apply(self, variables: dict, arrays: list) -> Any:
        args, kwargs = self._arguments(arrays)
        return self._model.apply(variables, *args, **kwargs)

    def _arguments(self, arrays: list) -> tuple[tuple, dict]:
        arrays = iter(arrays)
        leaves = [next(arrays) if hasattr(leaf, "shape") else leaf for leaf in self._leaves]
        return jax.tree.unflatten(self._structure, leaves)


def _as_shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, "shape") else leaf


def _pruned(jaxpr: core.Jaxpr) -> core.Jaxpr:
    """A program without the operations that its outputs do not depend on, such as those of unused gates."""
    return partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0]


def _flops_by_scope(jaxpr: core.Jaxpr, scope: Path = ()) -> Iterator[tuple[Path, int, str]]:
    """(module path, FLOPs, operation) of every product and convolution; the body of a scan counts once a step."""
    for equation in jaxpr.eqns:
        stack = str(equation.source_info.name_stack)
        inner_scope = scope + tuple(stack.split("/") if stack else ())
        operation = equation.primitive.name
        if operation in ("dot_general", "conv_general_dilated"):
            yield inner_scope, 2 * _multiplications(equation), operation
        if operation == "rnn_fwd":
            yield inner_scope, _flops_of_cudnn(equation), operation
        if operation == "native_loop_forward":
            yield inner_scope, _flops_of_native(equation), operation
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in _inner_programs(equation.params):
            for owner, count, operation in _flops_by_scope(inner, inner_scope):
                yield owner, count * times, operation


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
    (batch_size, num_steps, _), params = equation.invars[0].aval.shape, equation.params
    num_directions, hidden_size = 1 + params["bidirectional"], params["hidden_size"]
    return 2 * batch_size * num_steps * num_directions * 4 * hidden_size * (params["input_size"] + hidden_size)


def _flops_of_native(equation: Any) -> int:
    x, _, _, *kernels = (variable.aval.shape for variable in equation.invars)  # see `native.primitives.Operands`
    return 2 * x[0] * x[1] * sum(map(math.prod, kernels[:2]))


def _inner_programs(params: dict) -> Iterator[core.Jaxpr]:
    for value in params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part


def _is_inside(path: Path, outer: Path) -> bool:
    return len(path) > len(outer) and path[: len(outer)] == outer


def _contains(scope: Path, path: Path) -> bool:
    """Whether the names of a path occur in a scope in their order."""
    names = iter(scope)
    return all(name in names for name in path)


def _shape(output: Any) -> tuple[int, ...]:
    leaves = jax.tree.leaves(output)
    return getattr(leaves[0], "shape", ()) if leaves else ()


def _size(params: Any, path: Path) -> int:
    for name in path:
        params = params.get(name, {})
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
