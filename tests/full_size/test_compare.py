"""When a served text counts as NeMo's, on hand-made log-probs. Needs neither NeMo nor a server."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from locations import ROOT
from written_pages import words_of

from verification.full_size.compare import Row, markdown
from verification.full_size.judging import (
    Comparison,
    LogProbs,
    compare,
    compare_texts,
    compare_transducer,
    greedy_tokens,
    largest_difference,
    near_ties,
    tie_margins,
)
from verification.full_size.records import (
    BATCHED,
    BATCHED_WITH_LOG_PROBS,
    UNBATCHED,
    Record,
    is_done,
    read_records,
    write_records,
)

pytestmark = pytest.mark.fast

PIECES = "ab"
BLANK = len(PIECES)


def log_probs(*best: int, margin: float = 1.0) -> LogProbs:
    """float32 [frames, labels]: the label `best` of each frame leads all others by `margin`."""
    rows = np.full((len(best), len(PIECES) + 1), -3.0, np.float32)
    rows[np.arange(len(best)), best] += np.float32(margin)
    return rows


def record(values: LogProbs) -> Record:
    tokens = greedy_tokens(values)
    return Record("one.flac", 1.0, "".join(PIECES[token] for token in tokens), tokens, values)


NEMO = record(log_probs(0, 1, BLANK, 1))
CLOSE = record(np.concatenate([log_probs(0, 1, BLANK), log_probs(1, margin=5e-4)]))
"""Like NEMO, but its last frame is a near tie."""
FLIPPED = record(log_probs(0, 1, BLANK, 0))


def test_repeats_are_merged_before_blanks_are_dropped() -> None:
    assert greedy_tokens(log_probs(BLANK, 0, 0, BLANK, 0, 1, 1)) == [0, 0, 1]


def test_an_empty_recording_has_no_tokens() -> None:
    assert greedy_tokens(log_probs()) == []


def test_equal_text_is_equal() -> None:
    result = compare([NEMO], [NEMO])
    assert (result.compared, result.equal, result.ties, result.mismatches) == (1, 1, [], [])


def test_a_flip_within_nemos_tie_margin_is_a_near_tie() -> None:
    result = compare([FLIPPED], [CLOSE])
    assert (result.equal, result.mismatches) == (0, [])
    assert result.ties == ["one.flac: NeMo decides frame 3 by 5.0e-04"]


def test_a_flip_that_nemo_decides_clearly_is_a_mismatch() -> None:
    result = compare([FLIPPED], [NEMO])
    assert (result.equal, result.ties) == (0, [])
    assert "'aba'" in result.mismatches[0]


def test_a_clear_flip_among_near_ties_is_a_mismatch() -> None:
    served = record(log_probs(1, 1, BLANK, 0))
    assert compare([served], [CLOSE]).mismatches


def test_another_text_from_equal_labels_is_a_mismatch() -> None:
    assert compare([replace(NEMO, text="ba")], [NEMO]).mismatches


def test_tokens_that_do_not_follow_from_the_served_log_probs_are_not_a_near_tie() -> None:
    assert tie_margins(replace(FLIPPED, tokens=[0, 1]), CLOSE) == {}


def test_nan_is_not_a_near_tie_and_shows_in_the_difference() -> None:
    values = FLIPPED.log_probs
    assert values is not None
    broken = replace(FLIPPED, log_probs=np.where(values < -2.5, np.float32("nan"), values))
    assert compare([broken], [CLOSE]).mismatches
    assert np.isnan(largest_difference([broken], [CLOSE]))


def test_another_number_of_frames_is_a_mismatch_even_with_equal_text() -> None:
    longer = record(log_probs(0, 1, BLANK, 1, BLANK))
    assert longer.text == NEMO.text
    assert compare([longer], [NEMO]).mismatches
    assert largest_difference([longer], [NEMO]) == float("inf")


def test_a_text_without_log_probs_is_a_near_tie_only_if_log_probs_of_that_text_show_it() -> None:
    text_only = replace(FLIPPED, log_probs=None)
    assert compare_texts([text_only], [CLOSE], [[CLOSE], [FLIPPED]]).ties
    assert compare_texts([text_only], [CLOSE], [[CLOSE], [CLOSE]]).mismatches
    assert compare_texts([text_only], [NEMO], [[FLIPPED]]).mismatches


def test_a_transducer_is_compared_by_its_tokens_too() -> None:
    respelled = replace(NEMO, tokens=[0, 1])
    assert compare_transducer([NEMO], [NEMO], []).equal == 1
    assert compare_transducer([respelled], [NEMO], []).mismatches
    assert compare_transducer([replace(NEMO, text="a")], [NEMO], []).mismatches


def test_a_transducers_text_is_a_near_tie_only_if_its_recording_is_listed() -> None:
    result = compare_transducer([FLIPPED], [NEMO], [FLIPPED.audio])
    assert (result.equal, len(result.ties), result.mismatches) == (0, 1, [])
    assert compare_transducer([FLIPPED], [NEMO], ["other.flac"]).mismatches


def test_results_of_other_recordings_are_refused() -> None:
    with pytest.raises(ValueError, match="different recordings"):
        compare([replace(NEMO, audio="other.flac")], [NEMO])


def test_near_ties_are_counted() -> None:
    assert CLOSE.log_probs is not None
    assert near_ties(CLOSE.log_probs) == 1


def test_records_are_read_as_written(tmp_path: Path) -> None:
    file = tmp_path / "results" / f"{UNBATCHED}.jsonl"
    write_records(file, [NEMO, replace(FLIPPED, log_probs=None, text="à\u2028b")])
    first, second = read_records(file)
    assert (first.text, first.tokens, second.text, second.log_probs) == ("abb", [0, 1, 1], "à\u2028b", None)
    assert first.log_probs is not None and NEMO.log_probs is not None
    np.testing.assert_array_equal(first.log_probs, NEMO.log_probs)


def test_a_result_older_than_its_input_is_not_done(tmp_path: Path) -> None:
    output, source = tmp_path / "output", tmp_path / "source"
    source.touch()
    assert not is_done(output, source)
    output.touch()
    assert is_done(output, source)
    newer = output.stat().st_mtime + 10
    os.utime(source, (newer, newer))
    assert not is_done(output, source)


def test_the_committed_page_has_the_words_of_the_program() -> None:
    passes = (UNBATCHED, BATCHED_WITH_LOG_PROBS, BATCHED)
    row = Row(
        name="stt_en_citrinet_256",
        concurrency=8,
        checkpoint_bytes=1,
        graphs_bytes=1,
        export_seconds=1,
        export_peak_bytes=1,
        comparisons={name: Comparison(compared=1, equal=1) for name in passes},
        difference_to_nemo=0.0,
        difference_in_batches=0.0,
        characters=100,
        frames=1,
        near_ties=0,
        rtfx=dict.fromkeys(passes, 1.0),
        nemo_rtfx=1.0,
        recordings_per_execution=1.0,
    )
    page = markdown([row], recordings=16, seconds=114)
    assert words_of(page) == words_of((ROOT / "docs" / "full_size.md").read_text())
