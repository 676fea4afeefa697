"""Read the stages of an exported recognizer from its config.pbtxt, without Triton's protobuf.

A bare machine has no tritonclient. This reader parses protobuf's text format without knowing the fields: values stay
text, and each field is a list, because any field may be repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from nemo_triton import contract
from nemo_triton.errors import ClientError

CONFIG = "config.pbtxt"

Message = dict[str, list[Union[str, "Message"]]]
"""Values of a message by field, in order."""

_TOKEN = re.compile(
    r"""(?:
        (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
        |(?P<word>[-+.\w]+)
        |(?P<mark>[{}<>\[\]:,;])
        |(?P<end>$)
    )""",
    re.VERBOSE,
)
_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_CLOSING = {"{": "}", "<": ">"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class EnsembleError(ClientError):
    """A recognizer that is missing in the repository, or an unreadable configuration."""


@dataclass(frozen=True)
class Ensemble:
    """The stages of a recognizer, as folders of the repository.

    Attributes:
        name: The recognizer.
        features: Feature stage.
        encoder: Encoder stage.
        decoder: Decoder stage.
        text: Stage that makes the text: the decoder, or a separate stage if the decoder was exported for a GPU.
        trained: Whether the weights are trained, not random.
    """

    name: str
    features: str
    encoder: str
    decoder: str
    text: str
    trained: bool


def read_ensemble(repository: Path, name: str) -> Ensemble:
    """Read the configuration of a recognizer.

    Raises:
        EnsembleError: The configuration is missing or unreadable, or not a recognizer's. The message names the file.
    """
    file = repository / name / CONFIG
    try:
        config = parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EnsembleError(f"{name}: no such model in {repository}; choose from: {_names(repository)}") from error
    except (OSError, ValueError) as error:
        raise EnsembleError(f"{file}: not readable as a configuration ({error}); export the model again") from error
    steps = [step for part in _messages(config, "ensemble_scheduling") for step in _messages(part, "step")]
    return Ensemble(
        name,
        features=_step_with(steps, "output_map", contract.FEATURES.name, file),
        encoder=_step_with(steps, "input_map", contract.FEATURES.name, file),
        decoder=_step_with(steps, "output_map", contract.TOKENS.name, file),
        text=_step_with(steps, "output_map", contract.TEXT.name, file),
        trained=_description(config, file).weights != "random",
    )


def parse(text: str) -> Message:
    """Parse protobuf's text format.

    Raises:
        ValueError: The text is not in this format; the message names the line.
    """
    return _fields(_Tokens(text), end="")


class _Tokens:
    """A cursor over the tokens of a text, each (kind, value); the last one is ("end", "")."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_split(text))
        self._index = 0

    def peek(self) -> tuple[str, str]:
        return self._tokens[self._index][:2]

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self._index = min(self._index + 1, len(self._tokens) - 1)
        return token

    def skip(self, *marks: str) -> bool:
        """Skip the next token if it is one of these marks."""
        kind, value = self.peek()
        if kind == "mark" and value in marks:
            self.take()
            return True
        return False

    def error(self, expected: str) -> ValueError:
        value, line = self._tokens[self._index][1:]
        return ValueError(f"line {line}: expected {expected}, got {value or 'the end'}")


def _split(text: str) -> Iterator[tuple[str, str, int]]:
    """Split a text into tokens: kind, value and line of each."""
    position, line = 0, 1
    while True:
        space = _SPACE.match(text, position)
        assert space is not None
        line += space[0].count("\n")
        matched = _TOKEN.match(text, space.end())
        if matched is None:
            raise ValueError(f"line {line}: not protobuf's text format")
        kind = str(matched.lastgroup)
        yield kind, matched[kind], line
        if kind == "end":
            return
        position = matched.end()


def _fields(tokens: _Tokens, end: str) -> Message:
    message: Message = {}
    while True:
        kind, name = tokens.peek()
        if (kind == "end" and not end) or (kind == "mark" and name == end):
            tokens.take()
            return message
        if kind != "word":
            raise tokens.error(f"a field or {end or 'the end'}")
        tokens.take()
        colon = tokens.skip(":")
        values = message.setdefault(name, [])
        if tokens.skip("["):
            while not tokens.skip("]"):
                values.append(_value(tokens))
                tokens.skip(",")
        elif colon or tokens.peek()[1] in _CLOSING:
            values.append(_value(tokens))
        else:
            raise tokens.error(f"a value of {name}")
        tokens.skip(",", ";")


def _value(tokens: _Tokens) -> str | Message:
    kind, value = tokens.peek()
    if kind == "mark" and value in _CLOSING:
        tokens.take()
        return _fields(tokens, _CLOSING[value])
    if kind == "word":
        return tokens.take()[1]
    if kind != "string":
        raise tokens.error("a value")
    parts = []
    while tokens.peek()[0] == "string":
        # Adjacent strings are one string.
        parts.append(re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), tokens.take()[1][1:-1]))
    return "".join(parts)


def _messages(message: Message, field: str) -> list[Message]:
    return [value for value in message.get(field, []) if isinstance(value, dict)]


def _text(message: Message, field: str) -> str:
    """The last value of a field, which is the one that protobuf uses; empty if the field is missing."""
    values = [value for value in message.get(field, []) if isinstance(value, str)]
    return values[-1] if values else ""


def _description(config: Message, file: Path) -> contract.Description:
    values = {
        _text(entry, "key"): _text(value, "string_value")
        for entry in _messages(config, "parameters")
        for value in _messages(entry, "value")
    }
    try:
        return contract.Description.of(values)
    except ValueError as error:
        raise EnsembleError(f"{file}: {error}; export the model again") from error


def _step_with(steps: list[Message], tensors: str, name: str, file: Path) -> str:
    """The model of the first step that has the tensor `name` in the map `tensors`."""
    for step in steps:
        if name in {_text(entry, "key") for entry in _messages(step, tensors)}:
            return _text(step, "model_name")
    raise EnsembleError(f"{file}: not a recognizer: no step has {name} in its {tensors}")


def _names(repository: Path) -> str:
    """The ensembles of a repository, for an error."""
    names = [
        file.parent.name for file in sorted(repository.glob(f"*/{CONFIG}")) if "ensemble_scheduling" in _content(file)
    ]
    return ", ".join(names) or "no recognizer"


def _content(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")
