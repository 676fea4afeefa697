"""Token ids become one string inside the graph, with the spaces that NeMo would write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from export_scripts.operators.builder import Graph, ints, opset_imports
from export_scripts.operators.ragged import length_output, pack, padded, ragged_input
from export_scripts.operators.walk import names_read

TRANSCRIPT: tuple[str, ...] = ("TEXT", "TOKENS", "FRAMES", "TOKENS_LENGTH")
"""What a decoder gives, and a recognizer to its clients."""
PIECES = "PIECES"
"""What passes between a decoder and a text stage."""
LONGEST_DOUBLING = 24
"""Texts of up to 2**23 tokens; a day of speech has fewer."""


@dataclass(frozen=True)
class Pieces:
    """The text of each piece of a vocabulary, by its place.

    inside: its text after other text
    first: its text where none came before (SentencePiece drops the space that begins a text)
    begins: whether a text has begun once `first` is written
    punctuation: characters before which NeMo (since 2.4) deletes one space
    """

    inside: tuple[str, ...]
    first: tuple[str, ...]
    begins: tuple[bool, ...]
    punctuation: frozenset[str]

    def __len__(self) -> int:
        return len(self.inside)


def read_pieces(size: int, decode: Callable[[list[int]], str], punctuation: Iterable[str]) -> Pieces:
    """Learn the pieces of a vocabulary from the tokenizer itself.

    decode: NeMo's text of a list of ids, before spaces at punctuation are deleted
    Raises ValueError where no ordinary piece is found to put others behind, or one can't be served.
    """
    first = [decode([piece]) for piece in range(size)]
    if any("\0" in text for text in first):
        raise ValueError("the vocabulary has a piece with a NUL, where Triton would end the text")
    anchor = next((piece for piece in range(size) if first[piece] and first[piece].isalpha()), None)
    if anchor is None:
        raise ValueError("the vocabulary has no piece made of letters")
    after_text = len(first[anchor])
    inside = [decode([anchor, piece])[after_text:] for piece in range(size)]
    spaced = next((piece for piece in range(size) if first[piece] != inside[piece]), None)
    begins = [spaced is None or decode([piece, spaced]) == first[piece] + inside[spaced] for piece in range(size)]
    return Pieces(tuple(inside), tuple(first), tuple(begins), frozenset(punctuation))


def text_graph(pieces: Pieces) -> onnx.ModelProto:
    """TOKENS int64 [B, longest], -1 beyond each row's end -> TEXT string [B, 1]."""
    g = Graph("text")
    tokens = g.input("TOKENS", TensorProto.INT64, ["items", "tokens"])
    g.output("TEXT", _text(g, tokens, pieces), TensorProto.STRING, ["items", 1])
    return g.model()


def emit_transcript(g: Graph, tokens: str, frames: str, length: str, pieces: Pieces) -> None:
    """Emit what a decoder gives: text, and the tokens with the encoder frames where they were found.

    tokens, frames: int64 [B, longest], -1 beyond each row's length; length: int64 [B].
    TEXT string [B, 1]; TOKENS, FRAMES int32 [B, longest], longest >= 1; TOKENS_LENGTH int32 [B, 1].
    """
    g.output("TEXT", _text(g, tokens, pieces), TensorProto.STRING, ["items", 1])
    for name, column in (("TOKENS", tokens), ("FRAMES", frames)):
        g.output(name, g.Cast(column, to=TensorProto.INT32), TensorProto.INT32, ["items", "tokens"])
    length_output(g, "TOKENS_LENGTH", length)


def split_text(decoder: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Split a decoder's graph in two, so that the first can run on a GPU, which strings can't be copied to.

    The second graph takes PIECES, a copy of TOKENS. Triton (2.51) drops a step of an ensemble if a request names none
    of its outputs, even if a later step needs them. With TOKENS, a request for TEXT alone would fail.

    Args:
        decoder: a graph that ends in `emit_transcript`

    Returns:
        The decoder with PIECES int32 [B, longest] and PIECES_LENGTH int32 [B, 1] in place of TEXT, and the graph that
        takes those (ragged) and gives TEXT string [B, 1].

    Raises:
        ValueError: if the graph gives no TEXT made from TOKENS.
    """
    producers = {name: node for node in decoder.graph.node for name in node.output}
    outputs = {output.name: output for output in decoder.graph.output}
    missing = [name for name in TRANSCRIPT if name not in outputs or producers[name].op_type != "Identity"]
    if missing:
        raise ValueError(f"the decoder's graph has no {missing[0]}")
    sources = {name: producers[name].input[0] for name in TRANSCRIPT}
    cast = producers[sources["TOKENS"]]
    if cast.op_type != "Cast":
        raise ValueError("the decoder's TOKENS are not cast from those that its TEXT is made of")

    without_text = _part(decoder, decoder.graph.input, [output for name, output in outputs.items() if name != "TEXT"])
    for copy, name in ((PIECES, "TOKENS"), (f"{PIECES}_LENGTH", "TOKENS_LENGTH")):
        without_text.graph.node.append(helper.make_node("Identity", [sources[name]], [copy], name=copy))
        without_text.graph.output.add().CopyFrom(outputs[name])
        without_text.graph.output[-1].name = copy

    g = Graph("text")
    tokens = padded(g, ragged_input(g, PIECES, TensorProto.INT32), values=TensorProto.INT64)
    text_part = _part(
        decoder,
        [helper.make_tensor_value_info(cast.input[0], TensorProto.INT64, ["items", "tokens"])],
        [helper.make_tensor_value_info(sources["TEXT"], TensorProto.STRING, ["items", 1])],
    )
    results = g.append(text_part, {cast.input[0]: g.Where(tokens.valid, tokens.values, np.array(-1))})
    g.output("TEXT", results[sources["TEXT"]], TensorProto.STRING, ["items", 1])
    return without_text, g.model()


def _part(
    model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """The nodes and constants between some values of a model."""
    given = {value.name for value in inputs}
    wanted = {value.name for value in outputs}
    nodes = []
    for node in reversed(model.graph.node):
        if (wanted - given) & set(node.output):
            nodes.append(node)
            wanted |= names_read(node)
    part = onnx.ModelProto()
    part.CopyFrom(model)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    part.graph.CopyFrom(helper.make_graph(nodes[::-1], model.graph.name, inputs, outputs, constants))
    # Without strings an older opset will do, which more CUDA kernels serve.
    del part.opset_import[:]
    part.opset_import.extend(opset_imports(part.graph))
    return part


def _text(g: Graph, tokens: str, pieces: Pieces) -> str:
    """string [B, 1] of the tokens int64 [B, longest], -1 where there is none."""
    wordless = [not (inside or first) for inside, first in zip(pieces.inside, pieces.first, strict=True)]
    if any(wordless):
        spoken = g.And(g.GreaterOrEqual(tokens, np.array(0)), g.Not(_look_up(g, wordless, tokens)))
        (tokens,), _ = pack(g, [tokens], spoken)

    begun = g.CumSum(g.Cast(_look_up(g, pieces.begins, tokens), to=TensorProto.INT64), np.array(1), exclusive=1)
    is_first = g.Cast(g.Equal(begun, np.array(0)), to=TensorProto.INT64)
    punctuates = [inside[:1] in pieces.punctuation and inside != "" for inside in pieces.inside]
    following = g.Pad(g.Slice(tokens, ints(1), ints(np.iinfo(np.int64).max), ints(1)), ints(0, 0, 0, 1), np.array(-1))
    is_before_punctuation = g.Cast(_look_up(g, punctuates, following), to=TensorProto.INT64)

    variants = [text for kind in _variants(pieces) for text in kind]
    variant = g.Add(is_first, g.Mul(is_before_punctuation, np.array(2)))
    key = g.Where(g.Less(tokens, np.array(0)), np.array(-1), g.Add(tokens, g.Mul(variant, np.array(len(pieces)))))
    padded, doublings = _widen_to_power_of_two(g, key)
    strings = g.LabelEncoder(
        padded,
        domain="ai.onnx.ml",
        keys_int64s=list(range(len(variants))),
        values_strings=variants,
        default_string="",
    )
    return _join(g, strings, doublings)


def _variants(pieces: Pieces) -> list[list[str]]:
    """Texts by piece: inside, first, inside before punctuation, first before punctuation."""
    punctuation = "".join(map(re.escape, sorted(pieces.punctuation)))
    space_before = re.compile(rf"\s(?=[{punctuation}])") if punctuation else None

    def tidy(text: str) -> str:
        return space_before.sub("", text) if space_before else text

    plain = [[tidy(text) for text in kind] for kind in (pieces.inside, pieces.first)]
    return plain + [[re.sub(r"\s\Z", "", text) for text in kind] for kind in plain]


def _look_up(g: Graph, flags: Iterable[bool], tokens: str) -> str:
    """bool [B, longest]: the flag of each token; False for -1, which reads the last row."""
    return g.Gather(np.array([*flags, False]), tokens, axis=0)


def _widen_to_power_of_two(g: Graph, key: str) -> tuple[str, str]:
    """key [B, n] with columns of -1 added until there are 2**k, and k, int64 scalar."""
    width = g.Shape(key, start=1, end=2)
    powers = 2 ** np.arange(LONGEST_DOUBLING, dtype=np.int64)
    doublings = g.ReduceSum(g.Cast(g.Less(powers, width), to=TensorProto.INT64), keepdims=0)
    missing = g.Sub(g.Gather(powers, doublings, axis=0), width)
    return g.Pad(key, g.Concat(ints(0, 0, 0), missing, axis=0), np.array(-1)), doublings


def _join(g: Graph, strings: str, doublings: str) -> str:
    """string [B, 1] from [B, 2**k]: neighbours are concatenated, k times."""
    body = Graph("join")
    body.input("round", TensorProto.INT64, [])
    more = body.input("more", TensorProto.BOOL, [])
    row = body.input("row", TensorProto.STRING, ["items", "pieces"])
    end = ints(np.iinfo(np.int64).max)
    left, right = (body.Slice(row, ints(start), end, ints(1), ints(2)) for start in (0, 1))
    body.output("go_on", more, TensorProto.BOOL, [])
    body.output("joined", body.StringConcat(left, right), TensorProto.STRING, ["items", "halved"])
    return g.Loop(doublings, "", strings, body=body.graph())
