"""Four virtual devices for every test, set before JAX is imported, and what several tests train.

Programs that were compiled once in a session are not compiled again, neither here, in any of pytest's processes, nor in
the programs that tests start.
"""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["XLA_FLAGS"] = " ".join(
    [
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",  # tests compile more than they run; the programs they start do it in full
    ]
)
os.environ["JAX_PLATFORMS"] = "cpu"
if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers share it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = PROGRAMS = tempfile.mkdtemp(prefix="cnnrnn_tests_")
    atexit.register(shutil.rmtree, PROGRAMS, ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from ml_collections import ConfigDict

from cnnrnn.data.dataset import ArraySource, Batch, Dataset
from cnnrnn.data.sampling import SequentialSampler, ShuffledSampler

ROOT = Path(__file__).parent.parent

# --hypothesis-profile=long: see test_fuzz.py
settings.register_profile("long", deadline=None, suppress_health_check=[*HealthCheck], database=None, print_blob=True)


@pytest.fixture
def config() -> ConfigDict:
    """A run of seconds: the slides' net, small, on the embedded digits."""
    return ConfigDict(
        dict(
            seed=0,
            task=dict(name="classification.Classification", mean=(0.13,), std=(0.31,)),
            model=dict(name="convnet.ConvNet", features=(4, 4, 8)),
            data=dict(name="images.published.digits", batch_size=16, eval_batch_size=512),
            optim=dict(name="sgd", learning_rate=0.02, momentum=0.9),
            train=dict(num_steps=12, log_every=4, eval_every=6, checkpoint_every=6),
        )
    )


def array_dataset(arrays: Batch, batch_size: int, seed: int | None, dims: dict, info: dict) -> Dataset:
    """A data set in memory: shuffled with a seed, else one pass in order."""
    count = len(next(iter(arrays.values())))
    sampler = SequentialSampler(count, batch_size) if seed is None else ShuffledSampler(count, batch_size, seed)
    return Dataset(ArraySource(arrays), sampler, dims=dims, info=info)


def shapes_dataset(num_examples: int = 30, batch_size: int = 8, seed: int | None = 0) -> Dataset:
    """Bars on noise, vertical (label 0), horizontal (1) or none (2): image [12, 12, 1]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (num_examples, 12, 12, 1)).astype(np.uint8)
    labels = (np.arange(num_examples) % 3).astype(np.int32)
    for image, label in zip(images, labels, strict=True):
        position = rng.integers(2, 9)
        if label == 0:
            image[:, position : position + 2] = 255
        elif label == 1:
            image[position : position + 2] = 255
    info = {"class_names": ["vertical", "horizontal", "none"], "images": {"shape": [12, 12, 1]}}
    return array_dataset({"image": images, "label": labels}, batch_size, seed, {"num_classes": 3}, info)


def run_command(*words: str, **kwargs) -> subprocess.CompletedProcess:
    """Runs `python -m cnnrnn.WORDS` as a user would, on one device."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-m", f"cnnrnn.{words[0]}", *map(str, words[1:])],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        **kwargs,
    )


def assert_refused(done: subprocess.CompletedProcess, exit_code: int, *words: str) -> None:
    """One line on stderr that holds the words, and the exit code."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == exit_code, done.stderr
    assert len(lines) == 1 and lines[0].startswith("cnnrnn: error: "), done.stderr
    for word in words:
        assert word in lines[0], lines[0]


def prepare_set(home: Path, features, splits: dict[str, list[dict]], name: str = "Made", **how) -> None:
    """Prepares a set of TFDS from examples. `features` is a dict of features, or one that contains others."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(features) if isinstance(features, dict) else features
    keys = how.get("supervised_keys")

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=keys, description="made")

    def generate(self, _):
        return {split: iter(enumerate(examples)) for split, examples in splits.items()}

    members = dict(VERSION=tfds.core.Version("1.0.0"), _info=info, _split_generators=generate)
    members |= dict(_generate_examples=None, __module__=__name__, pkg_dir_path=home)
    builder = type(name, (tfds.core.GeneratorBasedBuilder,), members, skip_registration=True)
    tfds.disable_progress_bar()
    builder(data_dir=home, file_format=how.get("file_format", "array_record")).download_and_prepare()
