"""Asks a trained run: what is on an image, what comes next in a text, how a word sounds.

python -m cnnrnn.predict --workdir runs/digits_lenet5 image.png ...
python -m cnnrnn.predict --workdir runs/pydoc_lstm --prompt "the clouds are in the"
python -m cnnrnn.predict --workdir runs/cmudict_seq2seq phantasmic --attention attention.png
python -m cnnrnn.predict --workdir runs/espeak_ctc recording.wav --plot recording.png

For each image the classes with their probabilities, best first. An image that cannot be read gets one line; the others
are answered. For a prompt the likeliest next words with their probabilities, and a continuation, sampled. For each
sentence, or word, the best translations with their log-probabilities in nats. For each recording the likeliest
transcripts, and when each label of the first was.
"""

import json
import sys
from pathlib import Path

from absl import flags

from cnnrnn import command
from cnnrnn.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "the directory of a trained run")
JSON = flags.DEFINE_bool("json", False, "print one JSON document instead of lines, with every class of an image")
flags.DEFINE_integer("top", 4, "the number of classes, next words, translations or transcripts to print", lower_bound=1)
# every field of inference.Request but the inputs is a flag
PROMPT = flags.DEFINE_string("prompt", None, "the beginning of a text; a run on text continues it")
FILE = flags.DEFINE_string("file", None, "sentences to translate, one a line; - is standard input")
flags.DEFINE_integer("length", 200, "the number of tokens of the continuation", lower_bound=0)
flags.DEFINE_float("temperature", 1.0, "below 1 favors likely tokens, 0 takes the likeliest", 0.0)
flags.DEFINE_integer("top_k", None, "sample from this many of the likeliest tokens, or all", lower_bound=1)
flags.DEFINE_string("score", None, "the file of right translations, one a line, to score against")
flags.DEFINE_integer("beam_size", None, "of the search for translations or transcripts", lower_bound=1)
flags.DEFINE_string("attention", None, "the PNG to draw of where the first translations looked")
flags.DEFINE_string("ctm", None, "the CTM file to write the times of the labels of recordings to")
flags.DEFINE_string("textgrid", None, "the folder for a Praat TextGrid of each recording")
flags.DEFINE_string("plot", None, "the PNG to draw of the first recording: spectrogram and probabilities")
flags.DEFINE_enum("checkpoint", "newest", ["newest", "best"], "the checkpoint to ask")
flags.DEFINE_integer("average", 1, "the number of newest checkpoints to average", lower_bound=1)
flags.DEFINE_integer("seed", 0, "of the samples", lower_bound=0, upper_bound=2**32 - 1)


def main(argv: list[str]) -> None:
    """Reads the flags, and prints the answer of the run."""
    inputs = command.parse(argv, usage=__doc__)
    workdir = command.workdir(WORKDIR.value)
    if PROMPT.value is None and FILE.value is None and not inputs:
        raise ConfigError("nothing to answer - name files or sentences after the flags, or give a --prompt or a --file")

    from cnnrnn import inference
    from cnnrnn.training.workdir import read_run

    names = [name for name in inference.Request._fields if name != "inputs"]
    request = inference.Request(tuple(inputs), **{name: flags.FLAGS[name].value for name in names})
    answer = inference.answer(request, read_run(workdir), Path(workdir))
    if JSON.value:
        print(json.dumps(answer.document, indent=2))  # in ASCII: any terminal can show it, no name controls it
    else:
        for line in answer.lines:
            print(line)
    for error in answer.errors[:-1]:
        print(f"cnnrnn: error: {error}", file=sys.stderr)
    if answer.errors:
        raise answer.errors[-1]


if __name__ == "__main__":
    command.run(main)
