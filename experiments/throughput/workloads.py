"""The workloads, as plain numbers from which both sides build what they time."""

import dataclasses
import resource
import time
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Images:
    """A convolutional net's training step: uint8 images and labels in, SGD with momentum, softmax cross-entropy."""

    net: str
    batch_size: int
    shape: tuple[int, int, int]  # H, W, C
    num_classes: int
    forward_multiplications: int  # of one image
    first_layer_multiplications: int  # needs no gradient of its input

    @property
    def flops(self) -> int:
        """Of a training step: forward, gradient of the input, gradient of the kernel."""
        return 2 * self.batch_size * (3 * self.forward_multiplications - self.first_layer_multiplications)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One recurrent layer, forward and backward: gradients of the weights and of the input."""

    cell: str  # "lstm" or "gru"
    num_steps: int
    batch_size: int
    hidden_size: int  # also of the input
    has_lengths: bool = False

    @property
    def lengths(self) -> list[int]:
        """Of the sequences: from 1 to all steps, evenly, in an order that is not theirs; or all steps."""
        if not self.has_lengths:
            return [self.num_steps] * self.batch_size
        ranks = [7 * number % self.batch_size for number in range(self.batch_size)]
        return [1 + rank * (self.num_steps - 1) // (self.batch_size - 1) for rank in ranks]

    @property
    def flops(self) -> int:
        return 3 * 2 * sum(self.lengths) * {"lstm": 4, "gru": 3}[self.cell] * self.hidden_size * 2 * self.hidden_size


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """The medium model of Zaremba et al. 2014, a whole step: dropout, softmax, clipping, SGD."""

    num_steps: int = 35
    batch_size: int = 20
    hidden_size: int = 650
    num_layers: int = 2
    vocab_size: int = 10_000
    dropout_rate: float = 0.5
    clip_norm: float = 5.0

    @property
    def flops(self) -> int:
        h = self.hidden_size
        token = self.num_layers * 8 * h * h + h * self.vocab_size
        return 3 * 2 * self.num_steps * self.batch_size * token


@dataclasses.dataclass(frozen=True)
class Speech:
    """A bidirectional LSTM over filter banks with the CTC loss, a whole step with SGD."""

    num_steps: int = 200
    batch_size: int = 16
    num_features: int = 40
    hidden_size: int = 128
    num_layers: int = 2
    num_classes: int = 40  # 39 phonemes and the blank
    label_length: int = 30

    @property
    def flops(self) -> int:
        h, first = self.hidden_size, 2 * 4 * self.hidden_size * self.num_features
        frame = first + 2 * 4 * h * 2 * h + 2 * 2 * 4 * h * h + 2 * h * self.num_classes
        return 2 * self.num_steps * self.batch_size * (3 * frame - first)


CEILING_FLOPS = 2 * 2048**3  # of the product that measures the machine

WORKLOADS = {
    "lenet5": Images("lenet5", 128, (28, 28, 1), 10, 416_520, 28 * 28 * 25 * 6),
    "cnn_32_64_256": Images("cnn_32_64_256", 128, (28, 28, 1), 10, 4_643_840, 28 * 28 * 9 * 32),
    "alexnet": Images("alexnet", 16, (224, 224, 3), 1000, 714_188_480, 55 * 55 * 363 * 64),
    "lstm_35_20_200": Layer("lstm", 35, 20, 200),
    "lstm_35_20_650": Layer("lstm", 35, 20, 650),
    "lstm_128_32_512": Layer("lstm", 128, 32, 512),
    "lstm_128_32_512_lengths": Layer("lstm", 128, 32, 512, has_lengths=True),
    "lstm_784_64_128": Layer("lstm", 784, 64, 128),
    "gru_35_20_200": Layer("gru", 35, 20, 200),
    "gru_35_20_650": Layer("gru", 35, 20, 650),
    "gru_128_32_512": Layer("gru", 128, 32, 512),
    "zaremba_medium": LanguageModel(),
    "bilstm_ctc": Speech(),
}


def workload(name: str) -> Images | Layer | LanguageModel | Speech:
    """A workload by name, with changed fields: "lenet5:batch_size=1024"."""
    name, *changes = name.split(":")
    pairs = (change.split("=") for change in changes)
    return dataclasses.replace(WORKLOADS[name], **{field: int(value) for field, value in pairs})


def time_calls(run: Callable, wait: Callable, seconds: float) -> dict[str, float]:
    """Calls `run` after a warm-up for some seconds, waiting for each result with `wait`.

    Returns:
      The median time of a call, "ms", and the peak memory of the process, "peak MiB".
    """
    wait(run())
    wait(run())
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        wait(run())
        times.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": 1e3 * sorted(times)[len(times) // 2], "peak MiB": peak}
