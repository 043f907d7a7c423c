"""Reverses the words of the user."""

import jax
import numpy as np
from reverse_words.data import Words

from cnnrnn.data.dataset import collate
from cnnrnn.errors import ConfigError, DataError
from cnnrnn.inference import Answer, load_task


def answer(request, run, workdir):
    """One line for each word."""
    if not all(request.inputs) or not request.inputs:
        raise ConfigError("no words - name some after the flags")
    for word in request.inputs:
        if other := {*word} - {*run.info["symbols"][2:]}:
            raise DataError(f"{word!r} has a letter {min(other)!r} that the run does not know - leave it out")
    source = Words([*request.inputs], run.info["symbols"])
    batch = collate([source[index] for index in range(len(source))], int(source.lengths.max()))
    task, variables = load_task(request, run, workdir)
    batch["mask"] = np.ones(len(source), np.float32)
    words = [*task.words(jax.device_get(jax.jit(task.decode)(variables, batch)))]
    document = [{"word": word, "reversed": reverse} for word, reverse in zip(request.inputs, words, strict=True)]
    return Answer(document, [f"{word} -> {reverse}" for word, reverse in zip(request.inputs, words, strict=True)])
