"""CTC decoding and text in the graph, compared with NeMo's decoding of the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from architectures import CHARACTERS
from feeds import names, open_graph, ragged_feeds
from fixture_types import OpenCheckpoint
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecoding

from export_scripts.stages.ctc_decoder import ctc_decoder_graph
from export_scripts.stages.text import Pieces, read_pieces, split_text, text_graph
from nemo_triton.contract import LABELS, PIECES, TEXT, TOKENS, TRANSCRIPT

Labels = npt.NDArray[np.int32]
GREEDY = {"strategy": "greedy_batch"}


@pytest.fixture(scope="module")
def decodings(checkpoint: OpenCheckpoint) -> dict[str, Any]:
    """NeMo's decoding for each kind of vocabulary."""
    model: Any = checkpoint("citrinet").model
    return {
        "characters": CTCDecoding(GREEDY, vocabulary=CHARACTERS),
        "punctuation": CTCDecoding(GREEDY, vocabulary=[*CHARACTERS, ".", ",", "?"]),
        "pieces": model.decoding,
    }


def pieces_of(decoding: Any) -> Pieces:
    return read_pieces(decoding.blank_id, decoding.decode_ids_to_str, decoding.supported_punctuation)


def decoder(pieces: Pieces) -> ort.InferenceSession:
    return open_graph(ctc_decoder_graph(pieces))


def decode(graph: ort.InferenceSession, batch: Sequence[Labels]) -> tuple[list[str], list[Labels], list[Labels]]:
    """Texts, tokens and frames of label sequences, each padded with a label that must be ignored."""
    padded = [np.append(labels, np.int32(1)) for labels in batch]
    feeds = ragged_feeds(LABELS, padded, [len(labels) for labels in batch])
    text, tokens, frames, length = graph.run(names(TRANSCRIPT), feeds)
    counts = length[:, 0]
    assert all((row[count:] == -1).all() for row, count in zip(tokens, counts, strict=True))
    return (
        text[:, 0].tolist(),
        [row[:count] for row, count in zip(tokens, counts, strict=True)],
        [row[:count] for row, count in zip(frames, counts, strict=True)],
    )


def by_nemo(decoding: Any, labels: Labels) -> str:
    if not len(labels):
        return ""
    hypotheses = decoding.ctc_decoder_predictions_tensor(
        torch.from_numpy(labels[None].astype(np.int64)), decoder_lengths=torch.tensor([len(labels)])
    )
    return str(hypotheses[0].text)


@pytest.fixture(scope="module", params=["characters", "punctuation", "pieces"])
def decoding(request: pytest.FixtureRequest, decodings: dict[str, Any]) -> Any:
    return decodings[request.param]


def awkward_labels(decoding: Any) -> list[int]:
    """Blank, unknown, and pieces that are, begin with or end with a space or an apostrophe."""
    texts = [decoding.decode_ids_to_str([3, piece]) for piece in range(decoding.blank_id)]
    odd = [piece for piece, text in enumerate(texts) if not text.isalpha()]
    return [decoding.blank_id, 0, *odd]


def test_random_sequences_in_ragged_batches(decoding: Any) -> None:
    rng = np.random.default_rng(1)
    graph = decoder(pieces_of(decoding))
    awkward = awkward_labels(decoding)
    compared = 0
    for _ in range(100):
        batch = []
        for _ in range(rng.integers(1, 9)):
            pool = [*rng.choice(awkward, 4), *rng.integers(0, decoding.blank_id, rng.integers(0, 8))]
            batch.append(rng.choice(pool, size=rng.integers(0, 40)).astype(np.int32))
        texts, _, _ = decode(graph, batch)
        assert texts == [by_nemo(decoding, labels) for labels in batch]
        compared += len(batch)
    assert compared > 300


def test_a_long_text(decoding: Any) -> None:
    labels = np.random.default_rng(2).integers(0, decoding.blank_id, 5000).astype(np.int32)
    texts, tokens, _ = decode(decoder(pieces_of(decoding)), [labels, labels[:3]])
    assert texts == [by_nemo(decoding, labels), by_nemo(decoding, labels[:3])]
    assert len(tokens[0]) == 1 + np.count_nonzero(np.diff(labels))


def test_labels_without_tokens(decoding: Any) -> None:
    blanks = np.full(7, decoding.blank_id, np.int32)
    texts, tokens, frames = decode(decoder(pieces_of(decoding)), [blanks, blanks[:0]])
    assert texts == ["", ""]
    assert [len(row) for row in (*tokens, *frames)] == [0, 0, 0, 0]


def test_tokens_and_the_frames_where_they_begin(decodings: dict[str, Any]) -> None:
    decoding = decodings["characters"]
    blank, c, a, b = decoding.blank_id, 3, 1, 2
    labels = np.array([blank, c, c, blank, a, a, blank, a, b, b], np.int32)
    (text,), (tokens,), (frames,) = decode(decoder(pieces_of(decoding)), [labels])
    assert text == "caab"
    assert tokens.tolist() == [c, a, a, b]
    assert frames.tolist() == [1, 4, 7, 8]


def test_unknown_piece(decodings: dict[str, Any]) -> None:
    decoding = decodings["pieces"]
    labels = np.array([0, decoding.blank_id, 0, 20], np.int32)
    texts, _, _ = decode(decoder(pieces_of(decoding)), [labels])
    assert "⁇" in texts[0]
    assert texts == [by_nemo(decoding, labels)]


def run_split(pieces: Pieces, batch: Sequence[Labels]) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """The transcript of a whole decoder, and of the decoder split in two."""
    whole = ctc_decoder_graph(pieces)
    feeds = ragged_feeds(LABELS, batch)
    opened = [open_graph(graph) for graph in (whole, *split_text(whole))]
    expected = opened[0].run(names(TRANSCRIPT), feeds)
    tokens, frames, length, passed, passed_length = opened[1].run(None, feeds)
    np.testing.assert_array_equal(passed, tokens)
    np.testing.assert_array_equal(passed_length, length)
    (text,) = opened[2].run([TEXT.name], ragged_feeds(PIECES, list(passed), passed_length[:, 0].tolist()))
    return expected, [text, tokens, frames, length]


def test_a_split_decoder_gives_the_same_transcripts(decoding: Any) -> None:
    rng = np.random.default_rng(3)
    pieces = pieces_of(decoding)
    pool = [*awkward_labels(decoding), *rng.integers(0, decoding.blank_id, 20)]
    batch = [rng.choice(pool, size=length).astype(np.int32) for length in (1, 40, 7, 200, 33)]
    batch.append(np.full(5, decoding.blank_id, np.int32))
    for some in (batch, batch[-1:], [batch[-1], batch[-1]], batch[3:4]):
        for expected, actual in zip(*run_split(pieces, some), strict=True):
            assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(actual, expected)


def test_the_text_stage_gets_tokens_of_requests_from_different_batches(decoding: Any) -> None:
    """Each request is padded to the longest of its decoder's batch, and may have no token."""
    rng = np.random.default_rng(4)
    pieces = pieces_of(decoding)
    session = open_graph(split_text(ctc_decoder_graph(pieces))[1])
    pool = [*awkward_labels(decoding)[1:], *rng.integers(0, decoding.blank_id, 20)]
    texts = 0
    for _ in range(50):
        batch = [rng.choice(pool, size=rng.integers(0, 30)).astype(np.int32) for _ in range(rng.integers(1, 9))]
        padding = [np.full(rng.integers(not len(row), 9), -1) for row in batch]
        rows = [np.concatenate(pair) for pair in zip(batch, padding, strict=True)]
        (text,) = session.run(None, ragged_feeds(PIECES, rows, [len(row) for row in batch]))
        assert text.shape == (len(batch), 1)
        expected = [
            decoding.decode_tokens_to_str_with_strip_punctuation(row.tolist()) if len(row) else "" for row in batch
        ]
        assert text[:, 0].tolist() == expected
        texts += len(batch)
    assert texts > 150


def test_a_split_decoder_has_no_string_and_each_half_only_what_it_needs(decodings: dict[str, Any]) -> None:
    decoder_graph = ctc_decoder_graph(pieces_of(decodings["punctuation"]))
    halves = split_text(decoder_graph)
    for half in halves:
        onnx.checker.check_model(half)
        read = {name for node in half.graph.node for name in node.input}
        assert {tensor.name for tensor in half.graph.initializer} <= read
    operators = [{node.op_type for node in half.graph.node} for half in halves]
    assert not operators[0] & {"Loop", "LabelEncoder", "StringConcat"}
    assert {"Loop", "LabelEncoder"} <= operators[1]
    assert [output.name for output in halves[0].graph.output][:3] == names(TRANSCRIPT[1:])
    assert [value.name for value in halves[1].graph.input] == names([PIECES, PIECES.shape, PIECES.length])
    assert len(decoder_graph.graph.output) == 4, "the whole decoder is unchanged"


def test_a_graph_without_text_cannot_be_split(decodings: dict[str, Any]) -> None:
    tokens_graph, _ = split_text(ctc_decoder_graph(pieces_of(decodings["characters"])))
    with pytest.raises(ValueError, match=f"has no {TEXT.name}"):
        split_text(tokens_graph)
    with pytest.raises(ValueError, match=f"has no {TOKENS.name}"):
        split_text(text_graph(pieces_of(decodings["characters"])))


def test_pieces_without_text_are_skipped() -> None:
    """Control symbols: SentencePiece writes nothing for them, and the next piece is still the first of the text."""
    texts = {0: "", 1: "▁a", 2: "▁b", 3: "'", 4: "▁"}

    def decode_ids(ids: list[int]) -> str:
        return "".join(texts[piece] for piece in ids).replace("▁", " ").lstrip(" ")

    pieces = read_pieces(5, decode_ids, {"'"})
    assert pieces.begins == (False, True, True, True, False)
    rows = [[0, 1, 2], [1, 4, 0, 3], [4, 4, 2], [0], [1, 3, 4]]
    results, tokens, _ = decode(decoder(pieces), [np.array(row, np.int32) for row in rows])
    assert results == ["a b", "a'", "b", "", "a' "]
    assert tokens[1].tolist() == [1, 4, 0, 3]
    expected, split = run_split(pieces, [np.array(row, np.int32) for row in rows])
    assert split[0][:, 0].tolist() == expected[0][:, 0].tolist() == results


@pytest.mark.parametrize(
    ("vocabulary", "complaint"),
    [(["a", "b\0c"], "a piece with a NUL"), (["1", "-"], "no piece made of letters")],
)
def test_a_vocabulary_that_cannot_be_served(vocabulary: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_pieces(len(vocabulary), lambda ids: "".join(vocabulary[piece] for piece in ids), ())
