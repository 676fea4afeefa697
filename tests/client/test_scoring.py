"""WER against examples counted by hand, and against jiwer."""

import random

import jiwer
import pytest

from client.scoring import NORMALIZATIONS, Score, score


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", Score(1, 3, 3, 0, 0, 0)),
        ("a b c", "a x c", Score(1, 3, 2, 1, 0, 0)),
        ("a b c", "a c", Score(1, 3, 2, 0, 0, 1)),
        ("a b c", "a b b c", Score(1, 3, 3, 0, 1, 0)),
        ("a b c", "", Score(1, 3, 0, 0, 0, 3)),
        ("", "a b", Score(1, 0, 0, 0, 2, 0)),
        ("", "", Score(1, 0, 0, 0, 0, 0)),
        (" ", "a", Score(1, 0, 0, 0, 1, 0)),
    ],
)
def test_counts_of_one_pair(reference: str, hypothesis: str, expected: Score) -> None:
    assert score([reference], [hypothesis]) == expected


def test_wer_is_over_all_words_not_a_mean_over_utterances() -> None:
    result = score(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"])
    assert result.wer == pytest.approx(0.1)


def test_an_empty_reference_among_others_counts_its_insertions() -> None:
    result = score(["a b", ""], ["a b", "x y z"])
    assert result == Score(2, 2, 2, 0, 3, 0)
    assert result.wer == pytest.approx(1.5)


def test_without_reference_words_there_is_no_wer() -> None:
    assert score([], []) == Score(0, 0, 0, 0, 0, 0)
    assert score([], []).wer is None
    assert score([""], ["a"]).wer is None


def test_unequal_numbers_of_texts_are_refused() -> None:
    with pytest.raises(ValueError):
        score(["a", "b"], ["a"])


def test_agrees_with_jiwer_on_random_texts() -> None:
    source = random.Random(0)
    references = [" ".join(source.choices("abcd", k=source.randint(1, 12))) for _ in range(200)]
    hypotheses = [" ".join(source.choices("abcd", k=source.randint(0, 12))) for _ in range(200)]
    expected = jiwer.process_words(references, hypotheses)
    result = score(references, hypotheses)
    assert result.wer == pytest.approx(expected.wer)
    assert (result.substitutions, result.insertions, result.deletions, result.hits) == (
        expected.substitutions,
        expected.insertions,
        expected.deletions,
        expected.hits,
    )


@pytest.mark.parametrize(
    ("normalization", "text", "expected"),
    [
        ("none", " Hello,  World! ", " Hello,  World! "),
        ("basic", " Hello,\tWORLD!\n", "hello world"),
        ("basic", "don't", "don't"),
        ("basic", "don\u2019t", "don't"),
        ("basic", "twenty-one_two\u2014three", "twenty one two three"),
        ("basic", "Cafe\u0301 \u00c5", "caf\u00e9 \u00e5"),
        ("basic", "?!", ""),
        ("whisper", "Twenty-one colours, won't they? Um.", "21 colors will not they"),
    ],
)
def test_normalizations(normalization: str, text: str, expected: str) -> None:
    assert NORMALIZATIONS[normalization].apply(text).strip(" ") == expected.strip(" ")


def test_normalization_applies_to_both_sides() -> None:
    assert score(["Hello, world!"], ["hello world"], "none").substitutions == 2
    assert score(["Hello, world!"], ["hello world"], "basic").wer == 0
    assert score(["hello world"], ["HELLO - world."], "basic").wer == 0


def test_a_reference_that_normalizes_to_nothing() -> None:
    assert score(["...", "a"], ["uh oh", "a"], "basic") == Score(2, 1, 1, 0, 2, 0)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_each_normalization_says_what_it_does_in_one_sentence(name: str) -> None:
    statement = NORMALIZATIONS[name].statement
    assert statement.count(".") == 1 and statement.endswith(".")
