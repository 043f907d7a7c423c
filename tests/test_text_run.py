"""A run on a user's own text, from the command line: trained, asked, and refused in one line."""

import json
import random

import pytest
from conftest import assert_refused, run_command

PYDOC = "configs/pydoc_lstm.py"
SENTENCES = ["the clouds are in the sky .\n", "the fish are in the sea .\n"]
LINES = "".join(random.Random(0).choices(SENTENCES, k=240))  # in no order: what comes next only the sentence tells
SMALL = [
    "--config.data.unit=word",
    "--config.data.window=7",
    "--config.data.batch_size=8",
    "--config.model.hidden_size=24",
    "--config.train.num_steps=250",
    "--config.optim.learning_rate=0.02",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "book.txt").write_text(LINES)
    workdir = folder / "run"
    words = ["--config", PYDOC, "--workdir", workdir, f"--config.data.source={folder / 'book.txt'}", *SMALL]
    done = run_command("main", *words)
    assert done.returncode == 0, done.stderr
    return workdir, done, words


def test_it_learns_and_leaves_its_images(trained):
    workdir, done, _ = trained
    assert {"curves.png", "gates.png", "metrics.jsonl"} <= {file.name for file in workdir.iterdir()}
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["split"] == "validation" and last["perplexity"] < 1.25  # only what lives where is left to guess
    assert done.stdout.splitlines()[-2].startswith("validation ")


def test_the_vocabulary_is_saved_in_its_order(trained):
    info = json.loads((trained[0] / "dataset.json").read_text())
    tokens = info["text"]["tokens"]
    assert tokens[:5] == ["the", "\n", ".", "are", "in"] and sorted(tokens[5:]) == ["clouds", "fish", "sea", "sky"]


def test_a_prompt_is_answered_with_percentages_and_continued(trained):
    ask = ["--workdir", trained[0], "--prompt", "the clouds are in the"]
    done = run_command("predict", *ask, "--length=6", "--temperature=0.1", "--top=3")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert lines[0] == "the clouds are in the"
    assert lines[1].split()[0].endswith("%") and lines[1].split()[1] == "sky" and len(lines[1:4]) == 3
    assert "\n".join(lines[5:]).startswith("the clouds are in the sky.\nthe")
    answer = json.loads(run_command("predict", *ask, "--length=0", "--json").stdout)
    assert answer["next"][0]["word"] == "sky" and answer["text"] == "the clouds are in the"
    assert answer["next"][0]["probability"] > 0.5


def test_the_same_seed_continues_the_same(trained):
    ask = ["--workdir", trained[0], "--prompt", "the", "--top_k=2", "--temperature=2", "--length=40"]
    one, same, other = (run_command("predict", *ask, f"--seed={seed}").stdout for seed in (3, 3, 4))
    assert one == same != other


@pytest.mark.parametrize(
    ("words", "exit_code", "hint"),
    [
        (["--prompt", "the cloud"], 3, "word 'cloud' did not occur in the training text - did you mean clouds?"),
        (["--prompt", "the", "image.png"], 2, "one of them at a time"),
        (["image.png"], 6, "was not trained on images"),
        ([], 2, "nothing to answer"),
        (["--prompt", "the", "--temperature=-1"], 2, "--temperature"),
        (["--prompt", "the", "--temperature=nan"], 2, "--temperature is nan"),
    ],
)
def test_a_wrong_question_is_one_line(trained, words, exit_code, hint):
    done = run_command("predict", "--workdir", trained[0], *words)
    assert_refused(done, exit_code, hint)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "is empty"),
        (b"too short", "fewer than one window"),
        (b"caf\xe9 " * 900, "not UTF-8 text: byte 3"),
    ],
)
def test_a_text_that_cannot_be_used_is_one_line(tmp_path, content, hint):
    (tmp_path / "a.txt").write_bytes(content)
    words = ["--config", PYDOC, "--workdir", tmp_path / "run", f"--config.data.source={tmp_path / 'a.txt'}"]
    assert_refused(run_command("main", *words), 3, hint, "a.txt")


def test_a_text_that_has_changed_is_refused_and_nothing_is_lost(trained):
    workdir, _, words = trained
    book, before = workdir.parent / "book.txt", (workdir / "metrics.jsonl").read_bytes()
    book.write_text(LINES.replace("sea", "net"))
    try:
        assert_refused(run_command("main", *words), 6, "had another text")
    finally:
        book.write_text(LINES)
    assert (workdir / "metrics.jsonl").read_bytes() == before
    moved = workdir.parent / "moved.txt"
    moved.write_text(LINES)  # where the same text lies may change
    assert run_command("main", *words, f"--config.data.source={moved}").returncode == 0
