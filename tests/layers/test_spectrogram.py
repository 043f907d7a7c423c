"""Log-mel energies and cepstral coefficients against their definitions in NumPy, frame by frame and band by band."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.layers.spectrogram import log_mel, mel_filters, mfcc, normalize, stack_frames


def by_definition(samples, sample_rate, num_mels, window=0.025, hop=0.01, low=20.0, high=None):
    """The frames of one recording."""
    size, step = round(window * sample_rate), round(hop * sample_rate)
    samples = np.pad(samples, (0, max(size - len(samples), 0)))
    num_bins = next(2**n for n in range(20) if 2**n >= size)
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    points = np.linspace(mel(low), mel(high or sample_rate / 2), num_mels + 2)
    points = 700 * (10 ** (points / 2595) - 1)
    rows = []
    for start in range(0, len(samples) - size + 1, step):
        windowed = samples[start : start + size] * [0.5 - 0.5 * np.cos(2 * np.pi * n / size) for n in range(size)]
        row = np.zeros(num_mels)
        for k in range(num_bins // 2 + 1):
            power = abs(sum(windowed * np.exp(-2j * np.pi * k * np.arange(size) / num_bins))) ** 2
            frequency = k * sample_rate / num_bins
            for m in range(num_mels):
                left, center, right = points[m : m + 3]
                if left < frequency <= center:
                    row[m] += power * (frequency - left) / (center - left)
                elif center < frequency < right:
                    row[m] += power * (right - frequency) / (right - center)
        rows.append(np.log(np.maximum(row, 1e-10)))
    return np.array(rows)


@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [(8000, dict(num_mels=20)), (16000, dict(num_mels=15, window=0.02, hop=0.015, low=100.0, high=4000.0))],
)
def test_it_is_the_definition(sample_rate, settings):
    rng = np.random.default_rng(0)
    lengths = np.array([1500, 900, 30])
    samples = rng.normal(size=(3, 1500)).astype(np.float32) * 0.3
    frames, counts = jax.jit(lambda x, n: log_mel(x, n, sample_rate, **settings))(samples, lengths)
    for row, length in enumerate(lengths):
        expected = by_definition(samples[row, :length].astype(float), sample_rate, **settings)
        assert counts[row] == len(expected)
        np.testing.assert_allclose(frames[row, : len(expected)], expected, atol=1e-4)
        assert not frames[row, len(expected) :].any()


def test_silence_and_nothing():
    frames, counts = log_mel(jnp.zeros((2, 400)), jnp.array([400, 0]), 8000)
    assert counts.tolist() == [3, 0] and jnp.isfinite(frames).all()
    np.testing.assert_allclose(frames[0], np.log(1e-10), rtol=1e-5)
    assert not frames[1].any()


def test_padding_changes_nothing():
    samples = np.random.default_rng(0).normal(size=(2, 800)).astype(np.float32)
    lengths = jnp.array([800, 333])
    longer = np.where(np.arange(950) < np.asarray(lengths)[:, None], np.pad(samples, ((0, 0), (0, 150))), 7.0)
    (first, counts), (second, again) = (log_mel(x, lengths, 8000) for x in (samples, longer))
    np.testing.assert_array_equal(counts, again)
    np.testing.assert_allclose(second[:, : first.shape[1]], first, atol=1e-5)
    changed = normalize(jnp.where(jnp.arange(first.shape[1])[:, None] < counts[:, None, None], first, 0), counts)
    np.testing.assert_allclose(changed, normalize(first, counts), atol=1e-5)
    stacked, numbers = stack_frames(first, counts, 3)
    assert stacked.shape == (2, 3, 120) and numbers.tolist() == [3, 1]
    np.testing.assert_array_equal(stacked[0, 1], first[0, 3:6].ravel())


def test_a_tone_is_in_the_band_of_its_frequency():
    filters = mel_filters(16000, 512, 40, 20.0, 8000.0)
    for band in (8, 20, 33):
        hertz = filters[:, band].argmax() / 512 * 16000
        sound = np.sin(2 * np.pi * hertz * np.arange(4000) / 16000)[None]
        frames, _ = log_mel(jnp.asarray(sound), jnp.array([4000]), 16000)
        assert frames[0, 5].argmax() == band


def test_normalized_frames_have_mean_0_and_variance_1():
    frames = jnp.asarray(np.random.default_rng(0).normal(3, 5, size=(2, 50, 4)), jnp.float32)
    for row, length in zip(normalize(frames, jnp.array([50, 20])), (50, 20), strict=True):
        np.testing.assert_allclose(row[:length].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(row[:length].std(0), 1, atol=1e-3)
        assert not row[length:].any()


def test_cepstral_coefficients_are_the_orthonormal_dct():
    frames = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    expected = [
        [
            np.sqrt((1 if k == 0 else 2) / 20) * sum(row[m] * np.cos(np.pi * k * (m + 0.5) / 20) for m in range(20))
            for k in range(13)
        ]
        for row in frames
    ]
    np.testing.assert_allclose(mfcc(frames), expected, atol=1e-5)
    np.testing.assert_allclose(np.square(mfcc(frames, 20)).sum(-1), np.square(frames).sum(-1), rtol=1e-5)


def test_what_no_filter_can_be_is_refused():
    with pytest.raises(ValueError, match="stay below half of it"):
        mel_filters(8000, 256, 40, 20.0, 5000.0)
    with pytest.raises(ValueError, match="200 mels are too many for windows of 256 samples"):
        mel_filters(8000, 256, 200, 20.0, 4000.0)
