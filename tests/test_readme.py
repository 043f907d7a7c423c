"""The README's commands work and its figures are those of the configs."""

import re
import shlex

import pytest
from conftest import ROOT, run_command

from cnnrnn import config as configs

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
TRAININGS = [line for line in COMMANDS if "cnnrnn.main" in line and "pip" not in line]


def test_it_opens_with_the_two_commands():
    assert BLOCKS[0].strip() == (
        "python -m pip install -e '.[examples]' && "
        "python -m cnnrnn.main --config configs/digits_lenet5.py --workdir runs/digits_lenet5"
    )
    assert BLOCKS[1].strip() == "python -m pip install -e '.[examples,test]' && python -m pytest"


@pytest.mark.parametrize("line", TRAININGS)
def test_a_training_command_is_understood(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    overrides, rest = configs.split_overrides(words[words.index("cnnrnn.main") + 1 :])
    assert "--workdir" in rest or "--dry_run" in rest
    configs.load(rest[rest.index("--config") + 1], overrides)


def test_a_training_command_on_embedded_data_runs(tmp_path):
    line = next(line for line in TRAININGS if "configs/digits_lenet5.py" in line)
    words = shlex.split(line, comments=True)[3:]
    words[words.index("--workdir") + 1] = str(tmp_path)
    done = run_command("main", *words, "--config.train.num_steps=2")
    assert done.returncode == 0, done.stderr


def test_there_are_such_commands():
    assert len(TRAININGS) >= 3


def test_every_config_is_in_the_table_with_its_own_score():
    for file in sorted((ROOT / "configs").glob("*.py")):
        paragraph = re.search(r'Score: (.*?)"""', file.read_text(), flags=re.DOTALL)[1]
        score = re.search(r"not measured|[0-9]+\.[0-9]+( \+- [0-9.]+)?", paragraph)
        row = next(line for line in README.splitlines() if f"configs/{file.name}" in line and line.startswith("|"))
        assert score and score[0] in row, file.name


def test_every_file_it_names_is_there():
    for name in re.findall(r"[`(]((?:cnnrnn|configs|experiments|tests)/[\w/.]+)[`)]", README):
        assert (ROOT / name).exists(), name
