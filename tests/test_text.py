"""Text: tokenizers lose nothing and name what they do not know; windows cover the text as they say."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.data import (
    ByteTokenizer,
    CharTokenizer,
    TextWindows,
    load_tokenizer,
    shakespeare,
    tokenizer_from_json,
)


@given(st.text(min_size=1))
def test_characters_survive_there_and_back(text):
    tokenizer = CharTokenizer(text)
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int64 and tokens.shape == (len(text),)
    assert tokenizer.decode(tokens) == text and tokenizer.vocab_size == len(set(text))
    assert tokens.max() < tokenizer.vocab_size and tokenizer.encode("").shape == (0,)


@given(st.text())
def test_bytes_survive_there_and_back(text):
    tokenizer = ByteTokenizer()
    tokens = tokenizer.encode(text)
    assert tokens.tolist() == list(text.encode("utf-8")) and tokens.dtype == np.int64
    assert tokenizer.decode(tokens) == text


def test_the_numbers_are_the_places_in_the_sorted_vocabulary():
    tokenizer = CharTokenizer("banana!")
    assert tokenizer.characters == "!abn"
    assert tokenizer.encode("nab").tolist() == [3, 1, 2]


def test_shakespeare_has_64_characters_and_comes_back():
    train, validation = shakespeare("train"), shakespeare("validation")
    tokenizer = CharTokenizer(train + validation)
    assert tokenizer.vocab_size == 64
    assert tokenizer.decode(tokenizer.encode(validation)) == validation


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("heLlo", r"character 'L' \(U\+004C, at position 2\) is not among the 4 of the vocabulary"),
        ("hello\u00e9", r"character 'é' \(U\+00E9, at position 5\)"),
        ("\n", r"character '\\n' \(U\+000A, at position 0\)"),
        ("\U0001f600", r"U\+1F600"),
    ],
)
def test_an_unknown_character_is_named_with_its_place(text, says):
    with pytest.raises(ValueError, match=says):
        CharTokenizer("hello").encode(text)


@pytest.mark.parametrize("tokens", [[1, 0, 2], np.array([1, 0, 2], np.uint8), np.array([[1], [0], [2]])])
def test_every_kind_of_sequence_is_decoded(tokens):
    assert CharTokenizer("abc").decode(tokens) == "bac"
    assert CharTokenizer("abc").decode(mg.tensor(np.asarray(tokens, np.int64))) == "bac"
    assert CharTokenizer("abc").decode([]) == ByteTokenizer().decode([]) == ""


@pytest.mark.parametrize("tokenizer", [CharTokenizer("abc"), ByteTokenizer()])
def test_what_is_no_token_is_refused(tokenizer):
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match=rf"token {wrong} is not in 0\.\.{tokenizer.vocab_size - 1}"):
            tokenizer.decode([0, wrong, 1])
    with pytest.raises(TypeError, match="tokens are integers; got float64"):
        tokenizer.decode([0.5])


def test_a_sample_that_is_no_utf_8_is_decoded_or_refused_as_asked():
    assert ByteTokenizer().decode([97, 195]) == "a\ufffd"
    assert ByteTokenizer().decode([97, 195], errors="ignore") == "a"
    with pytest.raises(UnicodeDecodeError):
        ByteTokenizer().decode([97, 195], errors="strict")


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_every_vocabulary_comes_back_from_json(text):
    tokenizer = CharTokenizer(text)
    assert tokenizer_from_json(tokenizer.to_json()) == tokenizer
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("tokenizer", [CharTokenizer('añ\n"\\\u2028\U0001f600\x00\ud800'), ByteTokenizer()])
def test_a_vocabulary_is_saved_as_json_and_comes_back(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("older")
    tokenizer.save(path)
    json.loads(path.read_text())
    loaded = load_tokenizer(path)
    assert loaded == tokenizer and type(loaded) is type(tokenizer) and hash(loaded) == hash(tokenizer)
    assert loaded == tokenizer_from_json(tokenizer.to_json())
    assert list(tmp_path.iterdir()) == [path]
    assert CharTokenizer("ab") != CharTokenizer("abc") and CharTokenizer("ab") != ByteTokenizer()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no tokenizer's JSON"),
        ("[1, 2]", "no tokenizer's JSON"),
        ("{}", "no tokenizer's JSON"),
        ('"characters"', "no tokenizer's JSON"),
        ('{"tokenizer": "bpe"}', "unknown tokenizer 'bpe'; there are 'characters' and 'bytes'"),
        ('{"tokenizer": "characters", "characters": 5}', "no list of strings"),
        ('{"tokenizer": "characters", "characters": [1, 2]}', "no list of strings"),
        ('{"tokenizer": "characters"}', "an empty vocabulary"),
        ('{"tokenizer": "characters", "characters": ["b", "a"]}', "not distinct and in order"),
        ('{"tokenizer": "characters", "characters": ["a", "a"]}', "not distinct and in order"),
        ('{"tokenizer": "characters", "characters": ["ab"]}', "not distinct and in order"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_with_its_name(text, says, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ValueError, match=rf"t\.json: .*{says}"):
        load_tokenizer(tmp_path / "t.json")


# ------------------------------------------------------------------------------------------------- windows


@given(st.integers(2, 60), st.data())
def test_the_sweep_predicts_every_token_but_the_first_once_and_in_order(n, data):
    length, batch = data.draw(st.integers(1, n - 1)), data.draw(st.integers(1, 9))
    windows = TextWindows(np.arange(n) + 100, length, batch)
    batches = [(x.numpy(), y.numpy()) for x, y in windows]
    assert len(batches) == len(windows)
    assert np.concatenate([y.ravel() for _, y in batches]).tolist() == list(range(101, 100 + n))
    assert all((y == x + 1).all() and x.shape == y.shape for x, y in batches)
    whole = [x for x, _ in batches if x.shape[1] == length]
    assert all(len(x) == batch for x in whole[:-1]) and len(batches) - len(whole) <= 1
    rest = (n - 1) % length
    assert not rest or batches[-1][0].shape == (1, rest)


def test_random_windows_are_contiguous_anywhere_in_the_text_and_the_seed_fixes_them():
    def epoch(seed):
        generator = mg.Generator().manual_seed(seed)
        windows = TextWindows(np.arange(30), 5, 8, shuffle=True, batches=100, generator=generator)
        assert len(windows) == 100
        return [(x.numpy(), y.numpy()) for x, y in windows]

    batches = epoch(1)
    assert len(batches) == 100 and all(x.shape == y.shape == (8, 5) for x, y in batches)
    assert all((y == x + 1).all() and (np.diff(x) == 1).all() for x, y in batches)
    starts = np.concatenate([x[:, 0] for x, _ in batches])
    assert set(starts.tolist()) == set(range(25))  # the first and the last place too
    assert np.abs(np.bincount(starts) / 32 - 1).max() < 0.6
    again, other = epoch(1), epoch(2)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(batches, again))
    assert not all(np.array_equal(a[0], b[0]) for a, b in zip(batches, other))


def test_an_epoch_of_random_windows_has_about_as_many_tokens_as_the_text():
    assert len(TextWindows(np.arange(1000), 9, 4, shuffle=True)) == 27
    assert len(TextWindows(np.arange(20), 9, 4, shuffle=True)) == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "int64"])
def test_tokens_keep_their_type_and_batches_are_int64(dtype):
    windows = TextWindows(np.arange(20).astype(dtype), 6, 2)
    assert windows.tokens.dtype == dtype
    for x, y in windows:
        assert x.dtype is mg.int64 and y.dtype is mg.int64
        assert x.array.flags.c_contiguous and y.array.flags.c_contiguous


def test_a_tensor_of_tokens_does_as_well():
    (x, y), _ = TextWindows(mg.arange(8), 4)
    assert x.tolist() == [[0, 1, 2, 3]] and y.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: TextWindows(np.arange(5), 5), ValueError, "length 5 in a text of 5 tokens"),
        (lambda: TextWindows(np.arange(5), 0), ValueError, "length 0 in a text of 5 tokens"),
        (lambda: TextWindows(np.arange(5), 2, 0), ValueError, "batch_size is 0; it is at least 1"),
        (lambda: TextWindows(np.arange(5), 2, shuffle=True, batches=0), ValueError, "batches is 0"),
        (lambda: TextWindows(np.arange(5), 2, batches=3), ValueError, "batches is for shuffle=True"),
        (lambda: TextWindows("text", 2), TypeError, "tokens are integers .*; got <U4 of shape"),
        (lambda: TextWindows(np.ones(5), 2), TypeError, r"tokens are integers \(N,\); got float64"),
        (lambda: TextWindows(np.ones((5, 2), int), 2), TypeError, r"of shape \(5, 2\)"),
    ],
)
def test_what_makes_no_sense_says_what_and_the_cure(make, error, says):
    with pytest.raises(error, match=says):
        make()
