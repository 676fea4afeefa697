"""CTC decoding and text in the graph, against NeMo's own decoding of the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecoding
from tiny_models import CHARACTERS, NEW_NEMO, tiny_model

from export_scripts.graphs.ctc import ctc_decoder_graph
from export_scripts.graphs.text import Pieces, read_pieces

Labels = npt.NDArray[np.int32]
GREEDY = {"strategy": "greedy_batch"}


def nemo_decoding(vocabulary: str) -> Any:
    if vocabulary == "characters":
        return CTCDecoding(GREEDY, vocabulary=CHARACTERS)
    if vocabulary == "punctuation":
        return CTCDecoding(GREEDY, vocabulary=[*CHARACTERS, ".", ",", "?"])
    return tiny_model("citrinet", NEW_NEMO).decoding


def pieces_of(decoding: Any) -> Pieces:
    return read_pieces(decoding.blank_id, decoding.decode_ids_to_str, decoding.supported_punctuation)


def decoder(pieces: Pieces) -> ort.InferenceSession:
    return ort.InferenceSession(ctc_decoder_graph(pieces).SerializeToString(), providers=["CPUExecutionProvider"])


def decode(graph: ort.InferenceSession, batch: Sequence[Labels]) -> tuple[list[str], list[Labels], list[Labels]]:
    """Texts, tokens and frames of label sequences that come padded with a label that is none of theirs."""
    padded = [np.append(labels, np.int32(1)) for labels in batch]
    feeds = {
        "LABELS": np.concatenate(padded).astype(np.int32),
        "LABELS_SHAPE": np.array([[len(labels)] for labels in padded], np.int32),
        "LABELS_LENGTH": np.array([[len(labels)] for labels in batch], np.int32),
    }
    text, tokens, frames, length = graph.run(["TEXT", "TOKENS", "FRAMES", "TOKENS_LENGTH"], feeds)
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
def decoding(request: pytest.FixtureRequest) -> Any:
    return nemo_decoding(request.param)


def awkward_labels(decoding: Any) -> list[int]:
    """Blank, unknown, and pieces that begin with, end with or are a space or an apostrophe."""
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


def test_nothing_said(decoding: Any) -> None:
    blanks = np.full(7, decoding.blank_id, np.int32)
    texts, tokens, frames = decode(decoder(pieces_of(decoding)), [blanks, blanks[:0]])
    assert texts == ["", ""]
    assert [len(row) for row in (*tokens, *frames)] == [0, 0, 0, 0]


def test_tokens_and_the_frames_where_they_begin() -> None:
    decoding = nemo_decoding("characters")
    blank, c, a, b = decoding.blank_id, 3, 1, 2
    labels = np.array([blank, c, c, blank, a, a, blank, a, b, b], np.int32)
    (text,), (tokens,), (frames,) = decode(decoder(pieces_of(decoding)), [labels])
    assert text == "caab"
    assert tokens.tolist() == [c, a, a, b]
    assert frames.tolist() == [1, 4, 7, 8]


def test_unknown_piece() -> None:
    decoding = nemo_decoding("pieces")
    labels = np.array([0, decoding.blank_id, 0, 20], np.int32)
    texts, _, _ = decode(decoder(pieces_of(decoding)), [labels])
    assert "⁇" in texts[0]
    assert texts == [by_nemo(decoding, labels)]


def test_pieces_without_any_text_are_passed_over() -> None:
    """Control symbols: SentencePiece writes nothing for them, and the next piece still begins the text."""
    texts = {0: "", 1: "▁a", 2: "▁b", 3: "'", 4: "▁"}

    def decode_ids(ids: list[int]) -> str:
        return "".join(texts[piece] for piece in ids).replace("▁", " ").lstrip(" ")

    pieces = read_pieces(5, decode_ids, {"'"})
    assert pieces.begins == (False, True, True, True, False)
    rows = [[0, 1, 2], [1, 4, 0, 3], [4, 4, 2], [0], [1, 3, 4]]
    results, tokens, _ = decode(decoder(pieces), [np.array(row, np.int32) for row in rows])
    assert results == ["a b", "a'", "b", "", "a' "]
    assert tokens[1].tolist() == [1, 4, 0, 3]


@pytest.mark.parametrize(
    ("vocabulary", "complaint"),
    [(["a", "b\0c"], "a piece with a NUL"), (["1", "-"], "no piece made of letters")],
)
def test_a_vocabulary_that_cannot_be_served(vocabulary: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_pieces(len(vocabulary), lambda ids: "".join(vocabulary[piece] for piece in ids), ())
