"""The examples in the docstrings that people meet first are run."""

import doctest
import importlib

import pytest

EXAMPLES = [
    "config.build",
    "data.sampling.BucketSampler",
    "decoding.sample",
    "layers.convolution.convolve",
    "layers.rnn.cells.LSTM",
    "layers.rnn.layer.Recurrent",
    "layers.rnn.scan.scan",
    "metrics.Average",
    "optim.optimizer.make_optimizer",
    "tasks.task.Task",
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_example_runs(name):
    module, _, attribute = name.rpartition(".")
    module = importlib.import_module(f"cnnrnn.{module}")
    tests = doctest.DocTestFinder(recurse=False).find(getattr(module, attribute), attribute, module)
    (test,) = [test for test in tests if test.examples]
    failures = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=failures.append)
    assert not failures, "".join(failures)
