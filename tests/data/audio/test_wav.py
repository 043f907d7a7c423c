"""WAV files of every format are read, also against SciPy; what is wrong with one is said in one line."""

import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnrnn.data.audio.wav import EXTENSIBLE, FLOAT, PCM, decode_wav, encode_wav, read_wav, resample
from cnnrnn.errors import DataError

TONE = (0.6 * np.sin(np.arange(101) / 3)).astype(np.float32)


def make(data, bits=16, kind=PCM, channels=1, rate=8000, size=None, before=b"", extra=b"", after=b""):
    block = bits // 8 * channels
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits) + extra
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + before
    body += b"data" + struct.pack("<I", len(data) if size is None else size) + data + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


def integers(bits):
    """The tone as bytes, and its exact value."""
    values = np.round(TONE.astype(float) * 2 ** (bits - 1)).astype(np.int64)
    if bits == 8:
        return (values + 128).astype(np.uint8).tobytes(), values / 128
    return b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in values), values / 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers(bits, tmp_path):
    data, exact = integers(bits)
    for contents in (make(data, bits), make(data, bits, EXTENSIBLE, extra=_extension(bits, PCM))):
        samples, rate = decode_wav(contents)
        assert rate == 8000 and samples.dtype == np.float32
        np.testing.assert_allclose(samples, exact, atol=1e-7)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats(bits):
    data = TONE.astype(f"<f{bits // 8}").tobytes()
    for contents in (make(data, bits, FLOAT), make(data, bits, EXTENSIBLE, extra=_extension(bits, FLOAT))):
        np.testing.assert_allclose(decode_wav(contents)[0], TONE, atol=1e-7)


def _extension(bits, kind):
    return struct.pack("<HHIH", 22, bits, 0, kind) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"


def test_channels_are_averaged():
    both = np.stack([TONE, np.zeros_like(TONE)], 1).astype("<f4").tobytes()
    np.testing.assert_allclose(decode_wav(make(both, 32, FLOAT, channels=2))[0], TONE / 2, atol=1e-7)


def test_other_chunks_and_lengths_of_streams():
    data = integers(16)[0]
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    expected = decode_wav(make(data))[0]
    variants = [
        make(data, before=odd, after=odd),
        make(data, size=0xFFFFFFFF),
        make(data, size=0),
        make(data + b"\1", size=0),
    ]
    for contents in variants:
        np.testing.assert_array_equal(decode_wav(contents)[0], expected)


def test_what_python_and_scipy_write_and_read(tmp_path):
    from scipy.io import wavfile

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 11025, 0, "NONE", ""))
        file.writeframes(integers(16)[0])
    samples, rate = read_wav(tmp_path / "a.wav")
    assert rate == 11025
    np.testing.assert_allclose(samples, integers(16)[1], atol=1e-7)
    (tmp_path / "b.wav").write_bytes(encode_wav(samples, rate))
    theirs, values = wavfile.read(tmp_path / "b.wav")
    assert theirs == rate
    np.testing.assert_allclose(values / 32767, samples, atol=2e-5)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "it is empty - convert it to WAV"),
        (b"\0" * 400, "it is not a WAV file: it does not begin with RIFF and WAVE"),
        (make(integers(16)[0])[:-20], "it ends before its last sample - copy or record it again"),
        (make(b""), "it has no samples - record it again"),
        (make(b"")[:44], "it has no samples"),
        (make(b"")[:36], "it has no data before its end"),
        (make(b"")[:20], "its format is incomplete"),
        (make(b"")[:12], "it has no format before its end"),
        (make(b"\0" * 8, bits=12), "it has format 1 with 12 bits - convert it to 16 bits, PCM"),
        (make(b"\0" * 8, kind=85), "it has format 85 with 16 bits"),
        (make(b"\0" * 8, channels=0), "its header is damaged"),
        (make(b"\0" * 8, rate=0), "its header is damaged"),
        (make(np.array([np.nan], "<f4").tobytes(), 32, FLOAT), "it has samples that are no numbers"),
    ],
)
def test_what_is_wrong_is_said(contents, words, tmp_path):
    (tmp_path / "a.wav").write_bytes(contents)
    with pytest.raises(DataError, match=f"a.wav: .*{words}"):
        read_wav(tmp_path / "a.wav")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot read .*none.wav: No such file"):
        read_wav(tmp_path / "none.wav")


@given(st.binary(max_size=120), st.integers(0, 60))
def test_damage_is_an_error_or_sound(noise, position):
    contents = bytearray(make(integers(16)[0]))
    contents[position : position + len(noise)] = noise
    try:
        samples, rate = decode_wav(bytes(contents))
    except ValueError:
        return
    assert samples.ndim == 1 and len(samples) and rate > 0 and np.isfinite(samples).all()


def test_resampling_keeps_a_tone_and_drops_what_is_too_high():
    time = np.arange(8000) / 8000
    low, high = (np.sin(2 * np.pi * hertz * time).astype(np.float32) for hertz in (440, 3000))
    assert resample(low, 8000, 8000) is low
    half = resample(low + high, 8000, 4000)
    assert len(half) == 4000 and half.dtype == np.float32
    np.testing.assert_allclose(half[100:-100], low[::2][100:-100], atol=0.01)
    assert len(resample(low, 22050, 8000)) == -(-8000 * 8000 // 22050)
