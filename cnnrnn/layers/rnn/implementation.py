"""Which implementation of the loop over time a layer uses."""

from typing import Literal, get_args

import jax

from cnnrnn.layers.cpu.native import loop as native
from cnnrnn.layers.precision import Precision
from cnnrnn.layers.rnn import cudnn
from cnnrnn.layers.rnn.cells import Cell
from cnnrnn.layers.rnn.scan import Direction

Implementation = Literal["auto", "scan", "native", "cudnn"]
OPERATIONS = {"native": native, "cudnn": cudnn}  # modules with `run` and `unsupported_reason`


def choose(
    implementation: Implementation,
    cell: Cell,
    x: jax.Array,
    *,
    direction: Direction = "forward",
    has_recurrent_mask: bool = False,
    precision: Precision = "float32",
) -> Literal["scan", "native", "cudnn"]:
    """The implementation that a layer runs.

    "scan" is the loop of cnnrnn/layers/rnn/scan.py, which has no conditions; "native" is the compiled C of
    cnnrnn/layers/cpu/native; "cudnn" is the operation of cnnrnn/layers/rnn/cudnn.py. "auto" tries native, then
    cudnn, then scan.

    Args:
      implementation: what the user chose.
      cell: one of cnnrnn/layers/rnn/cells.py.
      x: [B, T, D], or anything of its shape and type.
      direction: see `scan`.
      has_recurrent_mask: whether there is recurrent dropout.
      precision: of the products.

    Raises:
      ValueError: there is no such implementation, or a condition of it does not hold.
    """
    if implementation not in get_args(Implementation):
        raise ValueError(f"implementation is {implementation!r} - it takes auto, scan, native or cudnn")
    settings = {"direction": direction, "has_recurrent_mask": has_recurrent_mask, "precision": precision}
    for name, module in OPERATIONS.items():
        if implementation in ("auto", name):
            is_auto = implementation == "auto"
            reason = module.unsupported_reason(cell, x, is_auto=is_auto, **settings)
            if not reason:
                return name
            if not is_auto:
                raise ValueError(f"implementation is {name!r}, but {reason} - set it to 'auto'")
    return "scan"
