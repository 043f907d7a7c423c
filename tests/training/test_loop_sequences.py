"""Runs on sequences, stopped and resumed, end with the bits of an unbroken run."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_loop import state_and_metrics, train_and_stop

from cnnrnn.data.audio.wav import encode_wav
from cnnrnn.errors import ConfigError
from cnnrnn.training import loop
from cnnrnn.training.checkpoint import Checkpoints


def test_translation_ends_with_the_same_bits(tmp_path, monkeypatch):
    """With buckets, dropout, and the best checkpoint, which is that of the unbroken run."""
    pytest.importorskip("sacrebleu")
    words = [f"{a}{b}{c}" for a in "ab" for b in "abc" for c in ("", "a", "ba", "abc")]
    (tmp_path / "pairs.tsv").write_text("".join(f"{word}\t{word[::-1]}\n" for word in words))
    config = ConfigDict(
        dict(
            seed=0,
            task=dict(name="translation.Translation", label_smoothing=0.1),
            model=dict(name="seq2seq.Seq2Seq", hidden_size=8, output_dropout_rate=0.5, input_feeding=True),
            data=dict(
                name="bitext.pairs",
                source=str(tmp_path / "pairs.tsv"),
                target_unit="character",
                max_length=8,
                held_out=0.2,
                batch_size=4,
                num_buckets=2,
            ),
            optim=dict(name="adam", learning_rate=0.01),
            train=dict(
                num_steps=12,
                log_every=4,
                eval_every=3,
                decode_every=6,
                checkpoint_every=6,
                best_metric="loss",
                best_mode="min",
            ),
        )
    )
    loop.train(config, str(tmp_path / "unbroken"))
    train_and_stop(config, tmp_path / "broken", monkeypatch, "advance", 8)
    loop.train(config, str(tmp_path / "broken"))
    assert state_and_metrics(tmp_path / "broken") == state_and_metrics(tmp_path / "unbroken")
    runs = [Checkpoints(tmp_path / name / "best").newest() for name in ("broken", "unbroken")]
    assert runs[0].step == runs[1].step and runs[0].record == runs[1].record
    config.train.best_metric, config.train.best_mode = "bleu", None
    with pytest.raises(ConfigError, match="best_metric is bleu, without a train.best_mode - say whether min or max"):
        loop.train(config, str(tmp_path / "broken"))
    config.train.best_metric, config.train.best_mode = "blue", "max"
    with pytest.raises(ConfigError, match="best_metric is blue, which no evaluation reports - did you mean bleu?"):
        loop.train(config, str(tmp_path / "broken"))


def test_speech_ends_with_the_same_bits(tmp_path, monkeypatch):
    """With buckets, dropout and SpecAugment."""
    (tmp_path / "sounds").mkdir()
    for number in range(30):
        samples = np.random.default_rng(number).normal(size=900 + 50 * (number % 7)) / 10
        (tmp_path / "sounds" / f"{number}.wav").write_bytes(encode_wav(samples, 4000))
        (tmp_path / "sounds" / f"{number}.txt").write_text("a b" if number % 2 else "b")
    config = ConfigDict(
        dict(
            seed=0,
            task=dict(name="speech.Speech", num_mels=8, time_masks=1, frequency_masks=1),
            model=dict(name="bilstm_ctc.BiLstmCtc", hidden_size=4, num_layers=1, layer_dropout_rate=0.3),
            data=dict(
                name="audio.recordings.recordings",
                source=str(tmp_path / "sounds"),
                sample_rate=4000,
                held_out=0.2,
                batch_size=4,
                num_buckets=2,
            ),
            optim=dict(name="adam", learning_rate=0.01),
            train=dict(num_steps=12, log_every=4, eval_every=6, checkpoint_every=6),
        )
    )
    loop.train(config, str(tmp_path / "unbroken"))
    train_and_stop(config, tmp_path / "broken", monkeypatch, "advance", 8)
    loop.train(config, str(tmp_path / "broken"))
    assert state_and_metrics(tmp_path / "broken") == state_and_metrics(tmp_path / "unbroken")
