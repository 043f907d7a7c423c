"""A run on a user's own pairs, from the command line: trained, asked, and refused in one line."""

import json
import random

import pytest
from conftest import assert_refused, run_command
from PIL import Image

CONFIG = "configs/cmudict_seq2seq.py"
WORDS = sorted({"".join(random.Random(n).choices("abcd", k=1 + n % 4)) for n in range(900)})
SMALL = [
    "--config.model.hidden_size=32",
    "--config.model.embed_size=16",
    "--config.data.batch_size=32",
    "--config.data.max_length=8",
    "--config.data.held_out=0.1",
    "--config.train.num_steps=400",
    "--config.train.eval_every=200",
    "--config.train.decode_every=200",
    "--config.train.checkpoint_every=100",
    "--config.train.max_to_keep=3",
    "--config.train.best_metric=bleu",
    "--config.train.best_mode=max",
    "--config.optim.learning_rate=0.01",
]


def spell(word):
    """What is to be learnt: each letter as a token of its own, in upper case."""
    return " ".join(word.upper())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "pairs.tsv").write_text("".join(f"{word}\t{spell(word)}\n" for word in WORDS))
    workdir = folder / "run"
    words = ["--config", CONFIG, "--workdir", workdir, f"--config.data.source={folder / 'pairs.tsv'}", *SMALL]
    done = run_command("main", *words, "--config.task.beam_size=2", "--config.task.label_smoothing=0.0")
    assert done.returncode == 0, done.stderr
    return workdir, done, words


def test_it_learns_and_leaves_its_predictions(trained):
    pytest.importorskip("sacrebleu")
    workdir, done, _ = trained
    assert {"curves.png", "attention.png", "predictions.test.txt"} <= {file.name for file in workdir.iterdir()}
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["split"] == "test" and last["bleu"] > 80
    predictions = (workdir / "predictions.test.txt").read_text().splitlines()
    assert 5 < len(predictions) < 60 and all(set(line) <= set("ABCD ") for line in predictions)
    assert " -> " in done.stdout and Image.open(workdir / "attention.png").size[0] > 300


def test_it_is_evaluated_again(trained, tmp_path):
    """The newest checkpoint gives the numbers of the training, the best those of the best, an average others."""
    workdir, predictions = trained[0], tmp_path / "predictions.txt"
    before = {file: file.stat().st_mtime_ns for file in workdir.rglob("*")}
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    test, best = records[-1], max(record["bleu"] for record in records if "bleu" in record)

    def evaluate(*words):
        done = run_command("evaluate", "--workdir", workdir, *words)
        assert done.returncode == 0, done.stderr
        values = done.stdout.splitlines()[3].split()
        return values[0], {name: float(value) for name, value in zip(values[1::2], values[2::2], strict=True)}

    split, values = evaluate("--predictions", predictions)
    assert split == "test" and values == pytest.approx(
        {name: test[name] for name in ("loss", "perplexity", "bleu", "chrf")}, rel=1e-3
    )
    assert predictions.read_text() == (workdir / "predictions.test.txt").read_text()
    assert evaluate("--split=validation", "--checkpoint=best")[1]["bleu"] == pytest.approx(
        max(record["bleu"] for record in records if record["split"] == "validation" and "bleu" in record), rel=1e-3
    )
    assert best > 80 and evaluate("--average=3")[1]["loss"] not in (values["loss"], None)
    assert evaluate("--config.task.beam_size=1", "--config.data.eval_batch_size=7")[1]["loss"] == values["loss"]
    assert {file: file.stat().st_mtime_ns for file in workdir.rglob("*")} == before
    signatures = json.loads((workdir / "signatures.json").read_text())
    assert "tok:13a" in signatures["bleu"] and "chrF2" not in signatures["bleu"] and "nc:6" in signatures["chrf"]


@pytest.mark.parametrize(
    ("words", "exit_code", "hint"),
    [
        (["--split=tset"], 2, "the run evaluates no split tset - there are validation, test"),
        (["--predictions=/no/such/folder/a.txt"], 2, "--predictions: there is no folder /no/such/folder"),
        (["--average=9"], 4, "has 3 checkpoints, fewer than --average, 9"),
        (["--config.model.hidden_size=9"], 2, "model.hidden_size is 9 but the run in"),
        (["--checkpoint=bset"], 2, "checkpoint"),
        (["word"], 2, "stray word 'word'"),
    ],
)
def test_a_wrong_evaluation_is_one_line(trained, words, exit_code, hint):
    assert_refused(run_command("evaluate", "--workdir", trained[0], *words), exit_code, hint)


def test_sentences_are_translated(trained, tmp_path):
    workdir, picture = trained[0], tmp_path / "a.png"
    done = run_command("predict", "--workdir", workdir, "abca", "d", "--top=2", "--attention", picture)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert len(lines) == 6 and lines[0] == "abca" and lines[3] == "d"
    log_prob, _, text = lines[1].strip().partition(" ")
    assert text == spell("abca") and -2 < float(log_prob) < 0 and float(lines[2].split()[0]) < float(log_prob)
    assert Image.open(picture).size[0] > 300
    (tmp_path / "words.txt").write_text("abca\nd\n")
    (tmp_path / "right.txt").write_text(f"{spell('abca')}\nA\n")
    ask = ["--workdir", workdir, "--file", tmp_path / "words.txt", "--score", tmp_path / "right.txt", "--json"]
    answer = json.loads(run_command("predict", *ask).stdout)
    first, second = answer["answers"]
    averaged = json.loads(run_command("predict", "--workdir", workdir, "abca", "--average=3", "--json").stdout)
    assert averaged[0]["translations"][0]["text"] == text
    log_probs = [one["translations"][0]["log_probability"] for one in (averaged[0], first)]
    assert log_probs[0] != log_probs[1]
    assert answer["scores"]["bleu"] > 0
    assert first["reference"]["log_probability"] == pytest.approx(first["translations"][0]["log_probability"], abs=1e-4)
    assert second["reference"]["log_probability"] < second["translations"][0]["log_probability"]


@pytest.mark.parametrize(
    ("words", "exit_code", "hint"),
    [
        (["xyz"], 3, "'xyz' has 'x', 'y', 'z', which did not occur in training"),
        (["a" * 9], 3, "has 10 tokens, more than 8 - divide it"),
        ([" "], 3, "sentence 1 is empty"),
        (["a\nb"], 3, "sentence 1 has a line end - divide it there"),
        (["a", "--top=9"], 2, "--top is 9, but the beam has 5 - give --beam_size=9"),
        (["a", "--average=4"], 4, "has 3 checkpoints, fewer than --average, 4"),
        (["a", "--file=b.txt"], 2, "--file and the sentence 'a'"),
        (["--file=nowhere.txt"], 3, "no file nowhere.txt or nowhere.txt.gz - check --file"),
        (["a", "--score=pyproject.toml"], 3, "lines for 1 sentences - give one each"),
        (["a", "--attention=/no/such/folder/a.png"], 2, "cannot be written"),
        ([], 2, "nothing to answer"),
    ],
)
def test_a_wrong_question_is_one_line(trained, words, exit_code, hint):
    done = run_command("predict", "--workdir", trained[0], *words)
    assert_refused(done, exit_code, hint)
    assert done.stdout == ""
