"""WAV files: integers of 8, 16, 24 and 32 bits and floats, of any number of channels, as one channel of numbers.

The length in the header is checked against the file: a file that was cut is an error, a stream of unknown length none.
"""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np

from cnnrnn.errors import DataError

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
FORMATS = {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32), (FLOAT, 32), (FLOAT, 64)}  # with bits a sample
UNKNOWN_LENGTHS = {0, 0xFFFFFFFF, 0x7FFFFFFF}  # of a stream, whose writer could not go back
MAX_RATE = 768_000


def read_wav(file: str | Path) -> tuple[np.ndarray, int]:
    """The samples float32 [N] between -1 and 1, the mean of the channels, and the sample rate.

    Raises:
      DataError: it cannot be read, is no WAV file of a known format, is cut, or has no samples.
    """
    try:
        contents = Path(file).read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror} - check the file and its rights") from error
    try:
        return decode_wav(contents)
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error


def decode_wav(contents: bytes) -> tuple[np.ndarray, int]:
    """As `read_wav`, of the bytes of a file.

    Raises:
      ValueError: what is wrong, and what to do.
    """
    if len(contents) < 12 or contents[:4] != b"RIFF" or contents[8:12] != b"WAVE":
        what = "it is empty" if not contents else "it is not a WAV file: it does not begin with RIFF and WAVE"
        raise ValueError(f"{what} - convert it to WAV")
    form, data = None, None
    for name, chunk, is_whole in _chunks(contents):
        if name == b"fmt ":
            form = _parse_format(chunk)
        elif name == b"data":
            if not is_whole:
                raise ValueError("it ends before its last sample - copy or record it again")
            data = chunk
            break
    if form is None or data is None:
        missing = "format" if form is None else "data"
        raise ValueError(f"it has no {missing} before its end - copy or record it again")
    kind, bits, num_channels, rate = form
    size = bits // 8 * num_channels
    data = data[: len(data) // size * size]  # a stream may have been stopped within a sample
    if not data:
        raise ValueError("it has no samples - record it again")
    samples = _to_float(data, kind, bits).reshape(-1, num_channels).mean(1, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise ValueError("it has samples that are no numbers - record it again")
    return samples, rate


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """The samples [N] at another rate, float32 [ceil(N new_rate / rate)].

    The filter is that of scipy.signal.resample_poly: a linear-phase FIR with a Kaiser window (beta 5).
    """
    if rate == new_rate:
        return samples
    from scipy.signal import resample_poly  # a second to import

    ratio = Fraction(new_rate, rate)
    return resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32)


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of 16 bits and one channel, of samples [N] between -1 and 1."""
    data = (np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes()
    header = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16)
    return (
        header + struct.pack("<HHIIHH", PCM, 1, rate, 2 * rate, 2, 16) + b"data" + struct.pack("<I", len(data)) + data
    )


def _chunks(contents: bytes):
    """(name, contents, whether they are complete) of the parts of a file."""
    position = 12
    while position + 8 <= len(contents):
        name, size = contents[position : position + 4], int.from_bytes(contents[position + 4 : position + 8], "little")
        start = position + 8
        if name == b"data" and size in UNKNOWN_LENGTHS:
            size = len(contents) - start
        yield name, contents[start : start + size], start + size <= len(contents)
        position = start + size + size % 2  # a chunk of odd size is followed by a byte that is not counted


def _parse_format(chunk: bytes) -> tuple[int, int, int, int]:
    """The kind of numbers, the bits of each, the number of channels and the rate."""
    if len(chunk) < 16:
        raise ValueError("its format is incomplete - copy or record it again")
    kind, num_channels, rate, _, block, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == EXTENSIBLE and len(chunk) >= 26:
        kind = int.from_bytes(chunk[24:26], "little")
    if (kind, bits) not in FORMATS:
        raise ValueError(f"it has format {kind} with {bits} bits - convert it to 16 bits, PCM")
    if not num_channels or not 0 < rate <= MAX_RATE or block != bits // 8 * num_channels:
        raise ValueError(f"it has {num_channels} channels at {rate} Hz, {block} bytes a sample - its header is damaged")
    return kind, bits, num_channels, rate


def _to_float(data: bytes, kind: int, bits: int) -> np.ndarray:
    if kind == FLOAT:
        return np.frombuffer(data, f"<f{bits // 8}").astype(np.float32)
    if bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if bits == 24:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(parts), 4), np.uint8)
        wide[:, 1:] = parts
        return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return (np.frombuffer(data, f"<i{bits // 8}") / 2.0 ** (bits - 1)).astype(np.float32)
