"""Spoken words that eSpeak NG synthesizes, with its own phones and their times: a set that needs no download.

The words, voices, rates, pitches and the seed of the noise are fixed. They are synthesized in a fixed order in one
fresh process, because a second call within a process gives other samples. The result is kept in the user's cache.
"""

import ctypes
import importlib.metadata
import itertools
import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnrnn.command import note
from cnnrnn.errors import DataError

CACHE = "~/.cache/cnnrnn/espeak"
VOICES = tuple(f"en-us+{name}" for name in ("m1", "m3", "m4", "m7", "f1", "f2", "f3", "f4", "m2", "f5"))
NEW_VOICES = VOICES[-2:]  # held out
NEW_WORD = 8  # one word in eight is held out, by its checksum
SETTINGS = ((150, 40), (175, 60), (190, 45))  # words a minute, pitch; the last is held out where all else is known
SILENT = ("_", "_:", "")
WORDS = """
about above across after again against age air all almost alone along always among animal answer any apple area arm
army art ask autumn baby back bad bag ball band bank base basket bath beach bear beautiful because become bed before
begin behind believe below best better between big bird black blood blue board boat body book born both bottom box boy
branch bread break bridge bright bring brother brown build burn busy butter buy call camp captain car care carry case
cat catch cause center certain chair chance change chief child church circle city class clean clear climb clock close
cloth cloud coat cold color come common company cook cool copy corn corner cost cotton count country course cow cross
crowd cry cup current cut dance danger dark daughter day dead deal decide deep desert design die dinner direct doctor
dog dollar door double down draw dream dress drink drive drop dry during ear early earth east easy eat edge effect egg
eight either electric else empty end enemy energy engine enjoy enough enter even evening event every example eye face
fact fall family famous far farm fast father favor fear feed feel few field fight figure fill find finger finish fire
first fish five flat floor flow flower fly follow food foot force forest forget form forward four free fresh friend
from front fruit full game garden gather general gentle get girl give glad glass go gold good govern grand grass gray
great green ground group grow guess guide gun hair half hand happen happy hard hat have head hear heart heat heavy help
high hill history hold hole home hope horse hot hour house huge human hundred hunt hurry ice idea inch include
industry insect instant iron island job join joy judge jump just keep key kill kind king kitchen knee know lake land
language large last late laugh law lead learn leave left leg length less letter level life lift light like line listen
little live long look lost loud love low machine magnet main make many map mark market master match matter measure
meat meet melody metal method middle might mile milk million mind mine minute miss modern moment money month moon
morning most mother motion mountain mouth move much multiply music name narrow nation nature near neck need neighbor
never new next night nine noise north nose note nothing notice number object ocean offer office often old once one
open opposite orange order other ought oxygen page paint pair paper parent part party pass path pattern pay people
perhaps person picture piece place plain plan plant play please point poor possible pound power practice present press
pretty print problem produce proper protect prove provide pull push question quick quiet quite radio rain raise reach
read ready reason receive record red region remember repeat reply rest result rich ride right ring rise river road
rock room root rose round rule run safe sail salt same sand save say school science sea season seat second see seed
select sell send sentence separate serve seven shall shape share sharp sheet shell shine ship shirt shoe shop shore
short should shoulder shout show side sign silent silver similar simple since sing sister sit six size skill skin sky
sleep slow small smell smile snow soft soil soldier solution some son song soon sound south space speak special speed
spell spend spring square stand star start state station steam steel step stick still stone stop store story straight
strange stream street stretch string strong student study subject success sugar suggest suit summer sun supply support
sure surface surprise swim symbol system table tail talk tall teach team teeth tell temperature ten test thank that
their them then there thick thin thing think third thought thousand three through throw time tiny tire together tone
tool top total touch toward town track trade train travel tree triangle trip trouble truck true try tube turn twenty
two type under unit until up use usual valley value various very view village visit voice vowel wait walk wall want war
warm wash watch water wave way weather week weight welcome west what wheel when where which while white whole why wide
wife wild will win wind window wing winter wire wish with woman wonder wood word work world write wrong yard year yellow
yes young
""".split()


class Spoken(NamedTuple):
    """A synthesized word.

    Attributes:
      samples: int16 [N].
      rate: samples a second.
      phones: of eSpeak, without stress.
      starts: [number of phones], where each begins, in seconds.
      name: the word and the voice.
      split: "train"; "validation", known words and voices at another rate and pitch; "new_words", "new_voices"; or
        "test", new words in new voices.
    """

    samples: np.ndarray
    rate: int
    phones: tuple[str, ...]
    starts: np.ndarray
    name: str
    split: str


def spoken_words() -> list[Spoken]:
    """All words, from the cache or synthesized.

    Raises:
      DataError: espeakng-loader is not installed, or cannot synthesize here.
    """
    try:
        version = importlib.metadata.version("espeakng-loader")
    except importlib.metadata.PackageNotFoundError:
        raise DataError("the embedded speech needs espeakng-loader - pip install '.[examples]'") from None
    utterances = _plan()
    plan = json.dumps(utterances)
    file = Path(os.path.expanduser(CACHE)) / f"{version}-{zlib.crc32(plan.encode()):08x}.npz"
    arrays = _read(file)
    if arrays is None:
        note(f"synthesizing {len(utterances):,} words, kept in {file}")
        try:
            _synthesize(plan, file)
        except OSError as error:
            raise DataError(f"cannot write {file}: {error.strerror} - make room, or give rights to it") from error
        arrays = _read(file)
    if arrays is None:
        raise DataError(f"{file} is damaged - delete it")
    return [_spoken(arrays, number, *row) for number, row in enumerate(utterances)]


def _plan() -> list[tuple[str, str, int, int]]:
    """(word, voice, words a minute, pitch) of each utterance: all of them but what `_split` leaves out."""
    rows = itertools.product(WORDS, VOICES, SETTINGS)
    return [(word, voice, *setting) for word, voice, setting in rows if _split(word, voice, setting)]


def _split(word: str, voice: str, setting: tuple[int, int]) -> str | None:
    """The split of an utterance. Known words in known voices have one more setting; what is new has one setting."""
    is_new_word, is_new_voice = zlib.crc32(word.encode()) % NEW_WORD == 0, voice in NEW_VOICES
    is_last, draw = setting == SETTINGS[-1], zlib.crc32(f"{word} {voice} {setting}".encode()) % 8
    if not (is_new_word or is_new_voice):
        return ("validation" if draw == 0 else None) if is_last else "train"
    if not is_last:
        return None
    return "test" if is_new_word and is_new_voice else "new_words" if is_new_word else "new_voices"


def _spoken(arrays: dict, number: int, word: str, voice: str, rate: int, pitch: int) -> Spoken:
    first, last = arrays["ends"][number : number + 2]
    begin, end = arrays["phone_ends"][number : number + 2]
    return Spoken(
        samples=arrays["samples"][first:last],
        rate=int(arrays["rate"]),
        phones=tuple(arrays["phones"][begin:end].tolist()),
        starts=arrays["starts"][begin:end],
        name=f"{word}, {voice}",
        split=_split(word, voice, (rate, pitch)),
    )


def _read(file: Path) -> dict[str, np.ndarray] | None:
    try:
        with np.load(file) as arrays:  # never with pickle
            return dict(arrays) if arrays.zip.testzip() is None else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _synthesize(plan: str, file: Path) -> None:
    """Runs this module as a program, which writes the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.stem}.{os.getpid()}.npz")
    done = subprocess.run([sys.executable, "-m", __name__, str(part)], input=plan, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise DataError(f"eSpeak NG cannot synthesize here: {last} - reinstall espeakng-loader")
    part.replace(file)


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("type", "unique", "text_position", "length", "audio_position", "sample")),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_PHONEME, _NO_EVENT = 7, 0  # types of events
_RATE, _PITCH = 1, 3  # parameters
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _main(file: str, plan: list) -> None:
    """Synthesizes all utterances and writes them."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    # 2: samples are handed over, and the call returns when all are; phoneme events; an error does not end the process
    sample_rate = library.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0x8000 | 0x0001)
    if sample_rate <= 0:
        raise SystemExit("espeak_Initialize failed")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of the noise in some voices; else it is the time in seconds
    chunks, events = [], []

    def receive(samples, count, event):
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        for number in itertools.count():
            if event[number].type == _NO_EVENT:
                return 0
            if event[number].type == _PHONEME:
                events.append((event[number].sample, bytes(event[number].id.string).decode()))

    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    samples, phones, starts, ends, phone_ends = [], [], [], [0], [0]
    for word, voice, rate, pitch in plan:
        if library.espeak_SetVoiceByName(voice.encode()):
            raise SystemExit(f"there is no voice {voice}")
        library.espeak_SetParameter(_RATE, rate, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        chunks.clear(), events.clear()
        library.espeak_Synth(word.encode(), len(word) + 1, 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
        samples.append(np.frombuffer(b"".join(chunks), np.int16))
        heard = [(sample, name.lstrip("',%=|")) for sample, name in events]
        heard = [(sample / sample_rate, name) for sample, name in heard if name not in SILENT]
        starts += [start for start, _ in heard]
        phones += [name for _, name in heard]
        ends.append(ends[-1] + len(samples[-1]))
        phone_ends.append(len(phones))
    np.savez(
        file,
        samples=np.concatenate(samples),
        phones=np.array(phones),
        starts=np.array(starts, np.float32),
        ends=np.array(ends),
        phone_ends=np.array(phone_ends),
        rate=sample_rate,
    )


if __name__ == "__main__":
    _main(sys.argv[1], json.loads(sys.stdin.read()))
