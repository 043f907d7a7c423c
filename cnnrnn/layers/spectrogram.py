"""From samples of sound to frames of log-mel energies or cepstral coefficients, on the device.

Conventions, in which libraries differ: the periodic Hann window; no padding at the edges of a recording; the power
spectrum; the mel scale of HTK, with triangles that are linear in Hz and have a peak of 1; the natural logarithm, with a
floor. A window is padded with zeros at its end, to a power of 2.

Shapes: B recordings, N samples, T frames, W samples of a window, F frequencies, M mels.
"""

import jax
import jax.numpy as jnp
import numpy as np

FLOOR = 1e-10  # of an energy, for samples between -1 and 1


def log_mel(
    samples: jax.Array,
    lengths: jax.Array,
    sample_rate: int,
    *,
    num_mels: int = 40,
    window: float = 0.025,
    hop: float = 0.01,
    low: float = 20.0,
    high: float | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The logarithms of the energies in bands of frequencies.

    >>> sound = jnp.sin(2 * jnp.pi * 440 * jnp.arange(8000) / 8000)[None]  # a second of 440 Hz
    >>> frames, num_frames = log_mel(sound, jnp.array([8000]), 8000)
    >>> frames.shape, int(num_frames[0]), int(frames[0, 50].argmax())
    ((1, 98, 40), 98, 9)

    Args:
      samples: [B, N], between -1 and 1.
      lengths: [B], the number of samples; what follows is padding.
      sample_rate: samples a second.
      num_mels: M.
      window, hop: the length of a window, and from one to the next, in seconds.
      low, high: the range of frequencies in Hz; by default up to half the sample rate.

    Returns:
      The frames [B, T, M] float32, 0 in padding; and the number of frames [B]: 1 + (length - W) // hop, but 1 for a
      shorter recording, which is padded with zeros, and 0 for an empty one.
    """
    size, step = round(window * sample_rate), round(hop * sample_rate)
    is_sample = jnp.arange(samples.shape[1]) < lengths[:, None]
    samples = jnp.where(is_sample, samples, 0).astype(jnp.float32)
    samples = jnp.pad(samples, ((0, 0), (0, max(size - samples.shape[1], 0))))
    starts = np.arange(0, samples.shape[1] - size + 1, step)
    windows = samples[:, starts[:, None] + np.arange(size)] * _hann(size)  # [B, T, W]
    num_bins = 1 << (size - 1).bit_length()
    power = jnp.abs(jnp.fft.rfft(windows, num_bins)) ** 2  # [B, T, F]
    energies = power @ mel_filters(sample_rate, num_bins, num_mels, low, high or sample_rate / 2)
    num_frames = jnp.where(lengths > 0, 1 + jnp.maximum(lengths - size, 0) // step, 0)
    is_frame = jnp.arange(len(starts)) < num_frames[:, None]
    return jnp.where(is_frame[..., None], jnp.log(jnp.maximum(energies, FLOOR)), 0.0), num_frames


def mel_filters(sample_rate: int, num_bins: int, num_mels: int, low: float, high: float) -> np.ndarray:
    """The weights [F, M] of the frequencies 0 to sample_rate / 2 in each mel band, F = num_bins / 2 + 1.

    Raises:
      ValueError: the range of frequencies is empty or above half the sample rate, or a band has none of the
        frequencies, because there are too many bands.
    """
    if not 0 <= low < high <= sample_rate / 2:
        raise ValueError(
            f"frequencies from {low} to {high} Hz at {sample_rate} samples a second - stay below half of it"
        )
    mels = np.linspace(_mel(low), _mel(high), num_mels + 2)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)  # Hz
    frequencies = np.linspace(0, sample_rate / 2, num_bins // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    if not filters.any(0).all():
        raise ValueError(
            f"{num_mels} mels are too many for windows of {num_bins} samples - take fewer, or longer windows"
        )
    return filters.astype(np.float32)


def mfcc(frames: jax.Array, count: int = 13) -> jax.Array:
    """The first `count` mel-frequency cepstral coefficients [..., count] of log-mel frames [..., M]: their DCT-II.

    It is orthonormal. Source: Davis, Mermelstein 1980.
    """
    num_mels = frames.shape[-1]
    angles = np.pi / num_mels * (np.arange(num_mels)[:, None] + 0.5) * np.arange(count)
    scale = np.where(np.arange(count) == 0, np.sqrt(1 / num_mels), np.sqrt(2 / num_mels))
    return frames @ (np.cos(angles) * scale).astype(np.float32)


def normalize(frames: jax.Array, lengths: jax.Array) -> jax.Array:
    """Frames [B, T, M] with mean 0 and variance 1 over each recording, in each band; 0 in padding [B]."""
    mask = (jnp.arange(frames.shape[1]) < lengths[:, None])[..., None]
    count = jnp.maximum(lengths, 1)[:, None, None]
    mean = jnp.sum(frames * mask, 1, keepdims=True) / count
    variance = jnp.sum(jnp.square(frames - mean) * mask, 1, keepdims=True) / count
    return jnp.where(mask, (frames - mean) * jax.lax.rsqrt(variance + 1e-5), 0.0)


def stack_frames(frames: jax.Array, lengths: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Joins each `count` frames [B, T, M] into one [B, ceil(T / count), count M]; the last is filled with zeros.

    Returns:
      The frames, and their numbers [B].
    """
    batch_size, num_frames, num_mels = frames.shape
    frames = jnp.pad(frames, ((0, 0), (0, -num_frames % count), (0, 0)))
    return frames.reshape(batch_size, -1, count * num_mels), -(-lengths // count)


def _hann(size: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def _mel(hertz: float) -> float:
    return 2595.0 * np.log10(1.0 + hertz / 700.0)
