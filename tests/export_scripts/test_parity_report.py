"""Words and recordings in the report of an export."""

from __future__ import annotations

import numpy as np
import pytest

from export_scripts.recordings import Recordings, Trace
from export_scripts.verify.parity import words_changed
from export_scripts.verify.report import Calibration, Parity
from nemo_triton.contract import LOG_PROBS


@pytest.mark.parametrize("among_probes", [0, 3])
def test_the_result_line_says_which_texts_and_words_count(among_probes: int) -> None:
    speech, derived = Trace("mine", 8, 20.0, "a"), Trace("made", 2, 4.0, "b")
    parity = Parity(
        model="coffee",
        checkpoint_sha256="",
        nemo_class="EncDecCTCModel",
        checkpoint_nemo_version=None,
        front_end="mel",
        scores=LOG_PROBS.name,
        versions={},
        precision="int8",
        max_word_change=0.02,
        probes=10,
        probe_seconds=24.0,
        probe_recordings=speech,
        probes_made=derived,
        calibration=Calibration("others", 3, 7.0, "c", among_probes),
        texts_compared=30,
        texts_equal=27,
        words_compared=100,
        words_changed=2,
    )
    line = parity.summary()
    assert line.startswith(
        "coffee: 27/30 texts equal NeMo's (10 probes, 24 s of audio, each unbatched and in two mixed batches); "
        "int8 changes 2 of 100 words (2.00%), counted on the unbatched probes"
    )
    assert ("also calibrated it" in line) == (among_probes > 0)


def test_a_trace_depends_on_the_samples_but_not_on_their_order() -> None:
    first, second = np.arange(3, dtype=np.int16), np.arange(3, 6, dtype=np.int16)
    digest = Recordings("a", (first, second), ("x", "y")).trace().sha256
    assert digest == Recordings("b", (second, first), ("p", "q")).trace().sha256
    assert digest != Recordings("a", (np.concatenate([first, second]),), ("x",)).trace().sha256
    assert Recordings("a", (first,), ("x",)).count_in(Recordings("b", (second, first), ("p", "q"))) == 1


def test_words_changed() -> None:
    assert words_changed("a b c", "a c d d") == 3
    assert words_changed("", "a b") == 2
    assert words_changed("a b", "") == 2
    assert words_changed("", "") == 0
