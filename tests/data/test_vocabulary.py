"""Tokens, their ids, and the text that they give back."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnrnn.data.vocabulary import LINE_END, UNKNOWN, Vocabulary, tokenize
from cnnrnn.errors import DataError


@pytest.mark.parametrize(
    ("unit", "tokens"),
    [
        ("character", list("Don't go.\n")),
        ("word", ["Don't", "go", ".", "\n"]),
        ("whitespace", ["Don't", "go.", "\n"]),
    ],
)
def test_what_a_token_is(unit, tokens):
    assert tokenize("Don't go.\n", unit)[0] == tokens


@given(st.text(max_size=60), st.sampled_from(["character", "word", "whitespace"]))
def test_every_character_belongs_to_one_token(text, unit):
    tokens, characters = tokenize(text, unit)
    assert len(tokens) == len(characters)
    assert characters.sum() == (len(text) if tokens else 0)


def test_the_vocabulary_has_a_fixed_order():
    """The most frequent first; the same in every process, whatever the seed of Python's hashes."""
    code = (
        "from cnnrnn.data.vocabulary import Vocabulary\n"
        "print(Vocabulary.build('word', 'b a c a d b a'.split(), [['e']], 4).tokens, "
        "Vocabulary.build('character', 'hello', [], 9).tokens)"
    )
    for seed in ("0", "1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == repr(((LINE_END, UNKNOWN, "a", "b"), ("l", "e", "h", "o", LINE_END)))[
            1:-1
        ].replace("), (", ") (")


def test_an_unknown_token_there_is_only_where_it_is_needed():
    assert UNKNOWN not in Vocabulary.build("word", ["a", "b"], [["a"]], 9).tokens
    trained = Vocabulary.build("word", list("aaabbc"), [["z"]], 9)
    assert trained.tokens == (LINE_END, UNKNOWN, "a", "b")  # c is rarest: it teaches what <unk> is
    cut = Vocabulary.build("word", list("aaabbcd"), [], 4)
    assert cut.tokens == (LINE_END, UNKNOWN, "a", "b")
    assert cut.encode(["a", "d", "?"]).tolist() == [2, 1, 1] and cut.oov(["a", "d", "?", "d"]) == ["d", "?"]


def test_tokens_that_are_all_equally_rare_do_not_vanish():
    """All but the last have their ids: there is more to tell apart than a line end and <unk>."""
    words = "each word of this line occurs once".split()
    vocabulary = Vocabulary.build("word", words, [["other"]], 99)
    assert vocabulary.tokens == (LINE_END, UNKNOWN, "each", "line", "occurs", "of", "once", "this")
    assert vocabulary.encode(words).tolist().count(1) == 1
    assert Vocabulary.build("word", ["a"], [["b"]], 9).tokens == (LINE_END, UNKNOWN, "a")


def test_the_rarest_tokens_are_unknown_as_long_as_the_others_are_half_of_the_text():
    half = Vocabulary.build("word", list("aabbcdef"), [["z"]], 99)
    assert half.tokens == (LINE_END, UNKNOWN, "a", "b")
    less = Vocabulary.build("word", list("aabbcdefg"), [["z"]], 99)
    assert less.tokens == (LINE_END, UNKNOWN, "a", "b", "c", "d", "e", "f")


@given(st.lists(st.sampled_from("abcdefgh\n"), min_size=2, max_size=40).filter(lambda text: {*text} - {LINE_END}))
def test_at_most_half_of_a_text_is_unknown_if_there_is_room(train):
    vocabulary = Vocabulary.build("character", train, [["z"]], 99)
    assert vocabulary.tokens[:2] == (LINE_END, UNKNOWN) and len(vocabulary.tokens) > 2
    assert 2 * (vocabulary.encode(train) == 1).sum() <= len(train)


def test_a_token_that_never_occurred_is_refused_with_its_neighbour():
    vocabulary = Vocabulary.build("word", ["clouds", "sky"], [], 9)
    with pytest.raises(DataError, match=r"word 'cloud' did not occur in the training text - did you mean clouds\?"):
        vocabulary.encode(["sky", "cloud"])


@pytest.mark.parametrize("unit", ["character", "word", "whitespace"])
def test_text_comes_back(unit):
    text = "(Well, well)\nthe sky!" if unit != "whitespace" else "well , well\nthe sky !"
    tokens, _ = tokenize(text, unit)
    vocabulary = Vocabulary.from_info(Vocabulary.build(unit, tokens, [], 99).info)
    assert vocabulary.decode(vocabulary.encode(tokens)) == text
