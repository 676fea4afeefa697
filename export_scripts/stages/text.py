"""Join token ids to one string inside the graph, with NeMo's spaces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from export_scripts.operators.builder import BATCH, Graph, Value, opset_imports
from export_scripts.operators.ragged import give_length, pack, padded, ragged_input
from export_scripts.operators.refusal import refuse_if
from export_scripts.operators.walk import names_read
from nemo_triton.contract import FRAMES, PIECES, TEXT, TOKENS, TRANSCRIPT

LONGEST_DOUBLING = 24
"""Longest text: 2**23 tokens, more than a day of speech."""


@dataclass(frozen=True)
class Pieces:
    """The text of each piece of a vocabulary, by its id.

    Attributes:
        inside: Text of the piece after other text.
        first: Text of the piece at the beginning, where SentencePiece drops a leading space.
        begins: Whether the text has begun after `first` is written.
        punctuation: Characters before which NeMo (2.4 and later) deletes one space.
    """

    inside: tuple[str, ...]
    first: tuple[str, ...]
    begins: tuple[bool, ...]
    punctuation: frozenset[str]

    def __len__(self) -> int:
        return len(self.inside)


def read_pieces(size: int, decode: Callable[[list[int]], str], punctuation: Iterable[str]) -> Pieces:
    """Find out the text of each piece by decoding with the tokenizer itself.

    Args:
        size: Number of pieces.
        decode: Function that returns NeMo's text of a list of ids, before NeMo deletes spaces at punctuation.
        punctuation: Characters before which NeMo deletes a space.

    Raises:
        ValueError: No piece consists of letters, or one can't be served.
    """
    first = [decode([piece]) for piece in range(size)]
    if any("\0" in text for text in first):
        raise ValueError(
            "the vocabulary has a piece with a NUL, at which Triton would cut the text; choose another checkpoint"
        )
    anchor = next((piece for piece in range(size) if first[piece] and first[piece].isalpha()), None)
    if anchor is None:
        raise ValueError("the vocabulary has no piece made of letters; choose another checkpoint")
    after_text = len(first[anchor])
    inside = [decode([anchor, piece])[after_text:] for piece in range(size)]
    spaced = next((piece for piece in range(size) if first[piece] != inside[piece]), None)
    begins = [spaced is None or decode([piece, spaced]) == first[piece] + inside[spaced] for piece in range(size)]
    return Pieces(tuple(inside), tuple(first), tuple(begins), frozenset(punctuation))


def text_graph(pieces: Pieces) -> onnx.ModelProto:
    """TOKENS int64 [B, longest], -1 beyond each row's end -> TEXT string [B, 1]."""
    g = Graph("text")
    tokens = g.input(TOKENS.name, TensorProto.INT64, [BATCH, *TOKENS.dims])
    g.give(TEXT, _text(g, tokens, pieces))
    return g.model()


def give_transcript(
    g: Graph, *, tokens: Value, frames: Value, length: Value, pieces: Pieces, refusal: str = ""
) -> None:
    """Add the outputs of a decoder: TEXT string [B, 1]; TOKENS, FRAMES int32 [B, longest]; TOKENS_LENGTH int32 [B, 1].

    Args:
        g: Graph of the decoder.
        tokens: int64 [B, longest], longest >= 1, -1 beyond each row's length.
        frames: int64 [B, longest], encoder frame of each token, -1 beyond each row's length.
        length: int64 [B], tokens of each row.
        pieces: Text of each token.
        refusal: Error if a token is not a piece. Part of the text because that stage runs on the CPU: on a GPU,
            onnxruntime doesn't check look-ups. Empty if all tokens are pieces.
    """
    checked = tokens + refuse_if(g, tokens.max() >= len(pieces), refusal) if refusal else tokens
    g.give(TEXT, _text(g, checked, pieces))
    g.give(TOKENS, tokens.astype(np.int32))
    g.give(FRAMES, frames.astype(np.int32))
    give_length(g, TOKENS, length)


def split_text(decoder: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Split a decoder's graph in two, so that the first can run on a GPU, where onnxruntime has no strings.

    The second graph reads PIECES, a copy of TOKENS. Triton (2.51) drops a step of an ensemble if a request names none
    of its outputs, even if a later step needs them. With TOKENS, a request for TEXT only would fail.

    Args:
        decoder: Graph that ends in `give_transcript`.

    Returns:
        The decoder with PIECES int32 [B, longest] and PIECES_LENGTH int32 [B, 1] in place of TEXT, and the graph from
        those (ragged) to TEXT string [B, 1].

    Raises:
        ValueError: The graph has no TEXT made from TOKENS.
    """
    producers = {name: node for node in decoder.graph.node for name in node.output}
    outputs = {output.name: output for output in decoder.graph.output}
    names = [tensor.name for tensor in TRANSCRIPT]
    missing = [name for name in names if name not in outputs or producers[name].op_type != "Identity"]
    if missing:
        raise ValueError(f"the decoder's graph has no {missing[0]}")
    sources = {name: producers[name].input[0] for name in names}
    cast = producers[sources[TOKENS.name]]
    if cast.op_type != "Cast":
        raise ValueError(f"the decoder's {TEXT.name} is not made from its {TOKENS.name}")

    kept = [output for name, output in outputs.items() if name != TEXT.name]
    without_text = _part(decoder, decoder.graph.input, kept)
    for copy, tensor in ((PIECES, TOKENS), (PIECES.length, TOKENS.length)):
        without_text.graph.node.append(
            helper.make_node("Identity", [sources[tensor.name]], [copy.name], name=copy.name)
        )
        without_text.graph.output.add().CopyFrom(outputs[tensor.name])
        without_text.graph.output[-1].name = copy.name
    return without_text, _text_stage(decoder, tokens=cast.input[0], text=sources[TEXT.name])


def _text_stage(decoder: onnx.ModelProto, *, tokens: str, text: str) -> onnx.ModelProto:
    """PIECES int32 (ragged) -> TEXT, with the decoder's nodes between the values `tokens` and `text`."""
    g = Graph("text")
    pieces = padded(g, ragged_input(g, PIECES), dtype=np.int64)
    nodes = _part(
        decoder,
        [helper.make_tensor_value_info(tokens, TensorProto.INT64, [BATCH, *TOKENS.dims])],
        [helper.make_tensor_value_info(text, TensorProto.STRING, [BATCH, *TEXT.dims])],
    )
    results = g.append(nodes, {tokens: g.Where(pieces.valid, pieces.values, -1)})
    g.give(TEXT, results[text])
    return g.model()


def _part(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The part of a model between these inputs and outputs."""
    given = {value.name for value in inputs}
    needed = {value.name for value in outputs}
    nodes = []
    for node in reversed(model.graph.node):
        if (needed - given) & set(node.output):
            nodes.append(node)
            needed |= names_read(node)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in needed]
    part.graph.CopyFrom(helper.make_graph(nodes[::-1], model.graph.name, inputs, outputs, constants))
    # A part without strings can use an older opset, for which there are more CUDA kernels.
    del part.opset_import[:]
    part.opset_import.extend(opset_imports(part.graph))
    return part


def _text(g: Graph, tokens: Value, pieces: Pieces) -> Value:
    """Text string [B, 1] of tokens int64 [B, longest], -1 for padding."""
    # A client that sends labels to this stage itself must not fail the requests in its batch by an unknown one.
    tokens = g.Where(tokens < len(pieces), g.Max(tokens, -1), -1)
    wordless = [not (inside or first) for inside, first in zip(pieces.inside, pieces.first, strict=True)]
    if any(wordless):
        is_written = (tokens >= 0) & ~_look_up(g, wordless, tokens)
        (tokens,), _ = pack(g, [tokens], is_written)

    begun = _look_up(g, pieces.begins, tokens).astype(np.int64).sum_before(axis=1)
    is_first = (begun == 0).astype(np.int64)
    punctuates = [inside[:1] in pieces.punctuation and inside != "" for inside in pieces.inside]
    following = tokens[:, 1:].pad((0, 0), (0, 1), value=-1)
    is_before_punctuation = _look_up(g, punctuates, following).astype(np.int64)

    variants = [text for kind in _variants(pieces) for text in kind]
    variant = is_first + is_before_punctuation * 2
    key = g.Where(tokens < 0, -1, tokens + variant * len(pieces))
    widened, doublings = _widen_to_power_of_two(g, key)
    strings = g.LabelEncoder(
        widened,
        domain="ai.onnx.ml",
        keys_int64s=list(range(len(variants))),
        values_strings=variants,
        default_string="",
    )
    return _join(g, strings, doublings)


def _variants(pieces: Pieces) -> list[list[str]]:
    """Text of each piece in four positions: inside, first, inside before punctuation, first before punctuation."""
    punctuation = "".join(map(re.escape, sorted(pieces.punctuation)))
    space_before = re.compile(rf"\s(?=[{punctuation}])") if punctuation else None

    def tidy(text: str) -> str:
        return space_before.sub("", text) if space_before else text

    plain = [[tidy(text) for text in kind] for kind in (pieces.inside, pieces.first)]
    return plain + [[re.sub(r"\s\Z", "", text) for text in kind] for kind in plain]


def _look_up(g: Graph, flags: Iterable[bool], tokens: Value) -> Value:
    """Flag of each token, bool [B, longest]; False for -1, which reads the last row."""
    return g.Gather(np.array([*flags, False]), tokens, axis=0)


def _widen_to_power_of_two(g: Graph, key: Value) -> tuple[Value, Value]:
    """Pad key [B, n] with columns of -1 to 2**k columns; returns it and k, int64 scalar."""
    width = key.size(1)
    powers = 2 ** np.arange(LONGEST_DOUBLING, dtype=np.int64)
    doublings = g.Less(powers, width).astype(np.int64).sum()
    missing = g.Gather(powers, doublings, axis=0) - width
    return g.Pad(key, g.Concat(np.zeros(3, np.int64), missing, axis=0), -1), doublings


def _join(g: Graph, strings: Value, doublings: Value) -> Value:
    """Join strings [B, 2**k] to [B, 1]: concatenate neighbours k times."""
    body = Graph("join")
    body.input("round", TensorProto.INT64, [])
    more = body.input("more", TensorProto.BOOL, [])
    row = body.input("row", TensorProto.STRING, ["items", "pieces"])
    left, right = row[:, ::2], row[:, 1::2]
    body.output("go_on", more, TensorProto.BOOL, [])
    body.output("joined", body.StringConcat(left, right), TensorProto.STRING, ["items", "halved"])
    return g.Loop(doublings, "", strings, body=body.graph())
