"""WER and CER compared with examples counted by hand and with jiwer; intervals compared with theory."""

import random

import jiwer
import pytest

from nemo_triton.loadtest.wer import NORMALIZATIONS, ErrorCounts, Rate, alignment, score

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", ErrorCounts(3, 0, 0, 0)),
        ("a b c", "a x c", ErrorCounts(2, 1, 0, 0)),
        ("a b c", "a c", ErrorCounts(2, 0, 0, 1)),
        ("a b c", "a b b c", ErrorCounts(3, 0, 1, 0)),
        ("a b c", "", ErrorCounts(0, 0, 0, 3)),
        ("", "a b", ErrorCounts(0, 0, 2, 0)),
        ("", "", ErrorCounts(0, 0, 0, 0)),
        (" ", "a", ErrorCounts(0, 0, 1, 0)),
    ],
)
def test_counts_of_one_pair(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert score([reference], [hypothesis]).words == expected


def test_characters_of_one_pair() -> None:
    assert score(["a bc d"], ["a bd"]).characters == ErrorCounts(4, 0, 0, 2)
    assert score([""], ["a b"]).characters == ErrorCounts(0, 0, 3, 0)


def test_wer_is_over_all_words_not_a_mean_over_utterances() -> None:
    result = score(["a", "a b c d e f g h i"], ["x", "a b c d e f g h i"])
    assert result.wer.value == pytest.approx(0.1)


def test_an_empty_reference_among_others_counts_its_insertions() -> None:
    result = score(["a b", ""], ["a b", "x y z"])
    assert result.words == ErrorCounts(2, 0, 3, 0)
    assert result.wer.value == pytest.approx(1.5)


def test_without_reference_words_there_is_no_wer() -> None:
    for result in (score([], []), score([""], ["a"])):
        assert (result.wer, result.cer) == (Rate(None, None), Rate(None, None))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("I want a coffee.", "i want ⁇ coffee", ErrorCounts(3, 1, 0, 0)),
        ("I want coffee.", "i want ⁇ coffee", ErrorCounts(3, 0, 1, 0)),
        ("", " ⁇ ", ErrorCounts(0, 0, 1, 0)),
        ("caf\u00e9 now", "caf ⁇  now", ErrorCounts(1, 1, 1, 0)),
        ("a ⁇ b", "a ⁇ b", ErrorCounts(3, 0, 0, 0)),
    ],
)
def test_an_unknown_piece_is_a_word_as_in_nemo(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    """NeMo compares texts split at spaces, as they are."""
    result = score([reference], [hypothesis], "basic")
    assert result.words == expected
    by_nemo = reference.lower().strip(".").split()
    if by_nemo:
        assert result.words.errors == jiwer.process_words(" ".join(by_nemo), hypothesis).wer * len(by_nemo)


def test_unequal_numbers_of_texts_are_refused() -> None:
    with pytest.raises(ValueError):
        score(["a", "b"], ["a"])


def random_texts() -> tuple[list[str], list[str]]:
    """References and hypotheses of four different words, so that they overlap."""
    source = random.Random(0)
    references = [" ".join(source.choices("abcd", k=source.randint(1, 12))) for _ in range(200)]
    hypotheses = [" ".join(source.choices("abcd", k=source.randint(0, 12))) for _ in range(200)]
    return references, hypotheses


def test_agrees_with_jiwer_on_random_texts() -> None:
    references, hypotheses = random_texts()
    result = score(references, hypotheses)
    for actual, expected in (
        (result.words, jiwer.process_words(references, hypotheses)),
        (result.characters, jiwer.process_characters(references, hypotheses)),
    ):
        counts = ErrorCounts(expected.hits, expected.substitutions, expected.insertions, expected.deletions)
        assert actual == counts
    assert result.wer.value == pytest.approx(jiwer.wer(references, hypotheses))
    assert result.cer.value == pytest.approx(jiwer.cer(references, hypotheses))


def test_the_interval_equals_the_binomial_one_if_errors_are_independent() -> None:
    source = random.Random(1)
    references = ["a"] * 2000
    hypotheses = ["x" if source.random() < 0.1 else "a" for _ in references]
    wer = score(references, hypotheses).wer
    assert wer.value is not None and wer.interval is not None
    half = 1.96 * (wer.value * (1 - wer.value) / len(references)) ** 0.5
    assert wer.interval == pytest.approx((wer.value - half, wer.value + half), abs=0.25 * half)


def test_the_interval_covers_the_true_rate_in_95_percent_of_samples() -> None:
    """Samples from a population with a WER of 20 %, in which whole utterances are wrong."""
    source, covered = random.Random(2), 0
    for _ in range(100):
        wrong = [source.random() < 0.2 for _ in range(150)]
        interval = score(["a b c d e"] * 150, ["v w x y z" if bad else "a b c d e" for bad in wrong]).wer.interval
        assert interval is not None
        covered += interval[0] <= 0.2 <= interval[1]
    assert covered >= 88


def test_an_alignment_marks_each_error_under_its_word() -> None:
    (pair,) = score(["send the red cup"], ["send a red cup now"]).pairs
    reference, hypothesis, marks = alignment(pair).splitlines()
    assert reference.split() == ["REF:", "send", "the", "red", "cup", "***"]
    assert hypothesis.split() == ["HYP:", "send", "a", "red", "cup", "now"]
    assert [marks[column] for column in (reference.index("the") + 2, len(marks) - 1)] == ["S", "I"]


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
    assert score(["Hello, world!"], ["hello world"], "none").words.substitutions == 2
    assert score(["Hello, world!"], ["hello world"], "basic").wer.value == 0
    assert score(["hello world"], ["HELLO - world."], "basic").wer.value == 0


def test_a_reference_that_normalizes_to_nothing() -> None:
    assert score(["...", "a"], ["uh oh", "a"], "basic").words == ErrorCounts(1, 0, 2, 0)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_each_normalization_says_what_it_does_in_one_sentence(name: str) -> None:
    statement = NORMALIZATIONS[name].statement
    assert statement.count(".") == 1 and statement.endswith(".")
