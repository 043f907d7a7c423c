"""Which module answers, and what a run that does not say so costs: one line."""

import json

import pytest
from ml_collections import ConfigDict

from cnnrnn import inference
from cnnrnn.errors import WorkdirError
from cnnrnn.inference import Request, percent
from cnnrnn.training.workdir import Run


@pytest.mark.parametrize(
    ("probability", "text"), [(0.0, "<1%"), (0.004, "<1%"), (0.82, "82%"), (0.994, "99%"), (0.996, ">99%")]
)
def test_percentages_are_those_of_the_slides(probability, text):
    assert percent(probability) == text


def test_any_module_may_answer(tmp_path, monkeypatch):
    (tmp_path / "echoing.py").write_text(
        "from cnnrnn.inference import Answer\n"
        "def answer(request, run, workdir):\n"
        "    return Answer({'asked': request.inputs}, [*request.inputs])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run = Run(ConfigDict(), {"inference": "echoing"})
    assert inference.answer(Request(("a", "b")), run, tmp_path).lines == ["a", "b"]


@pytest.mark.parametrize(("info", "words"), [({}, "does not say how"), ({"inference": "no_such_module"}, "no_such")])
def test_a_run_that_nobody_can_ask_is_one_line(tmp_path, info, words):
    with pytest.raises(WorkdirError, match=words):
        inference.answer(Request(("a",)), Run(ConfigDict(), json.loads(json.dumps(info))), tmp_path)
