"""Which files below a folder are data, and which split a name means.

Regular files are read, and each folder once. A listing leaves out what systems and archives leave behind, the
directories of runs, pipes, devices and sockets, and links to folders of the same set.
"""

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path

from cnnrnn.command import note
from cnnrnn.errors import DataError

LEFTOVERS = {  # folders that a system or an archive leaves, casefolded
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__",
    "#recycle",
}  # fmt: skip
RUN_FILES = (".lock", "config.json")  # the directory of every run has both
RUN = "the directory of a run"  # a reason to leave a folder out
SPLITS = {  # what a split is called, apart from its case
    "train": ("train", "training", "trn"),
    "validation": ("validation", "validate", "valid", "val", "dev", "development"),
    "test": ("test", "testing", "tst"),
}
FILLERS = {"set", "split", "data", "dataset", "images", "image", "imgs", "img", "folder"}  # "train_set", "Test Images"


class Listing:
    """Lists the folders of one data set and remembers what it leaves out: `Listing(root).walk(folder)`.

    Attributes:
      left_out: {reason: paths}, in the order in which they were met.

    Args:
      root: the folder of the set.

    Raises:
      DataError: the root is the directory of a run.
    """

    def __init__(self, root: str | Path):
        self.left_out: dict[str, list[str]] = {}
        self._seen: dict[tuple[int, int], str] = {}  # {(device, inode): the path under which a folder is read}
        self._root = os.path.realpath(root)
        self._scanned: dict[str, tuple[list[str], list[str]]] = {}
        if is_run(root):
            raise DataError(f"{root} is the directory of a run - name a folder of data, and another --workdir")
        self._is_first(root)

    def scan(self, folder: str | Path) -> tuple[list[str], list[str]]:
        """The paths of the folders and of the files in a folder, sorted by name.

        A link to a file counts as a file, also if the file is missing: to read it is an error that names it.

        Raises:
          DataError: the folder cannot be read.
        """
        if str(folder) not in self._scanned:
            self._scanned[str(folder)] = self._scan(folder)
        return self._scanned[str(folder)]

    def walk(self, folder: str | Path) -> list[str]:
        """The paths of all files below a folder, sorted."""
        found, waiting = [], [str(folder)]
        while waiting:  # no recursion: folders may be nested more deeply than Python's stack
            folders, files = self.scan(waiting.pop())
            found += files
            waiting += folders
        return sorted(found)

    def find_outermost(self, root: str | Path, is_data: Callable[[str], bool]) -> str:
        """The root, or the folder that all data are in, as an archive leaves it; then one line says so.

        Args:
          root: a folder.
          is_data: whether a file is data, by its path.
        """
        inner = str(root)
        while True:
            folders, files = self.scan(inner)
            if len(folders) != 1 or split_of(os.path.basename(folders[0])) or any(map(is_data, files)):
                break
            inner = folders[0]
        folders, files = self.scan(inner)
        if inner == str(root) or not (find_splits(map(os.path.basename, folders + files)) or len(folders) > 1):
            return str(root)
        note(f"reading {inner}, the only folder in {root}")
        return inner

    def leave_out(self, reason: str, path: str) -> None:
        """Remembers a file or folder that is not read."""
        self.left_out.setdefault(reason, []).append(path)

    def print_left_out(self) -> None:
        """Names what is left out, in one line. Hidden files are expected, and not mentioned."""
        reasons = {reason: paths for reason, paths in self.left_out.items() if reason != "hidden"}
        if reasons:
            more = {reason: f" and {len(paths) - 1} more" for reason, paths in reasons.items() if len(paths) > 1}
            parts = [f"{reason}: {paths[0]}{more.get(reason, '')}" for reason, paths in reasons.items()]
            note(f"left out, {'; '.join(parts)}")

    def summary(self) -> dict[str, dict]:
        """What was left out, hidden files included, as JSON: {reason: {"count": n, "first": path}}."""
        return {reason: {"count": len(paths), "first": paths[0]} for reason, paths in self.left_out.items()}

    def _scan(self, folder: str | Path) -> tuple[list[str], list[str]]:
        try:
            with os.scandir(folder) as entries:
                entries = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"cannot read the folder {folder}: {error.strerror} - change its rights") from error
        folders, files = [], []
        for entry in entries:
            path = str(Path(entry.path))  # "cats", not "./cats": a folder is known by its path
            mode = _mode(path)
            if entry.name.startswith("."):
                self.leave_out("hidden", path)
            elif stat.S_ISDIR(mode):
                folders += [path] if self._is_data(path) else []
            elif stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                files.append(path)
            else:
                self.leave_out("not a regular file", path)
        return sorted(folders), sorted(files)

    def _is_data(self, folder: str) -> bool:
        """Whether a folder is to be read; if not, it is remembered as left out."""
        if os.path.basename(folder).casefold() in LEFTOVERS:
            self.leave_out("made by a system or an archive", folder)
        elif is_run(folder):
            self.leave_out(RUN, folder)
        elif os.path.islink(folder) and f"{os.path.realpath(folder)}/".startswith(f"{self._root}/"):
            # its images would get the class of the link, or the link would form a circle
            self.leave_out("a link to a folder of the same set", folder)
        else:
            return self._is_first(folder)
        return False

    def _is_first(self, folder: str | Path) -> bool:
        """Whether a folder has not been met, under whatever name: links may form a circle."""
        status = os.stat(folder)
        first = self._seen.setdefault((status.st_dev, status.st_ino), str(folder))
        if first != str(folder):
            self.leave_out(f"the same folder as {first}", str(folder))
        return first == str(folder)


def is_run(folder: str | Path) -> bool:
    """Whether a folder is the working directory of a run."""
    return all(os.path.lexists(os.path.join(folder, name)) for name in RUN_FILES)


def is_regular(path: str | Path) -> bool:
    """Whether a path is a regular file or leads to one. To open a pipe would wait for whoever writes to it."""
    return stat.S_ISREG(_mode(path))


def split_of(name: str) -> str | None:
    """The split that the name of a folder, or of a file without its suffix, means; None if it means none.

    >>> split_of("Training"), split_of("val2017"), split_of("test-images"), split_of("trains")
    ('train', 'validation', 'test', None)
    """
    words = _words(name)
    for split, names in SPLITS.items():
        if len(words) == 1 and words[0].removesuffix("set") in names:
            return split
    return None


def find_splits(names: Iterable[str]) -> dict[str, str]:
    """The split that each name means: {name: split}. A name that means none is left out.

    Names that are the same but for a split, such as birds_train and birds_test, mean splits too.

    >>> find_splits(["train", "extra"]), find_splits(["birds_train", "birds-test", "birds"])
    ({'train': 'train'}, {'birds_train': 'train', 'birds-test': 'test'})
    """
    names = list(names)
    if found := {name: split for name in names if (split := split_of(name))}:
        return found
    by_rest: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        words = _words(name)
        splits = [split for word in words if (split := split_of(word))]
        if len(splits) == 1:
            rest = tuple(word for word in words if not split_of(word))
            by_rest.setdefault(rest, {})[name] = splits[0]
    several = [group for group in by_rest.values() if "train" in group.values() and len({*group.values()}) > 1]
    return several[0] if len(several) == 1 else {}


def _words(name: str) -> list[str]:
    """The words of a name in lower case, without digits and without what a folder of data is usually called."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name))  # TrainSet
    return [word for word in re.findall(r"[^\W\d_]+", name.casefold()) if word not in FILLERS]


def _mode(path: str | Path) -> int:
    """The type of what a path leads to; that of the link itself if it leads nowhere; 0 if there is nothing."""
    for status in (os.stat, os.lstat):
        try:
            return status(path).st_mode
        except (OSError, ValueError):  # links in a circle, a name with a zero byte
            continue
    return 0
