"""Mutated manifests of every shape, as hypothesis strategies, and the good entries that must be read from them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from verification.fuzz.inputs import NAME, Input
from verification.fuzz.manifest_lines import Good, Lines, lines_of


@dataclass(frozen=True)
class Expected:
    """What must be read.

    Attributes:
        good: Good entries by line number.
        lines: Numbers of the lines that must each be an utterance or a problem; None if a record can have more lines.
    """

    good: dict[int, Good]
    lines: frozenset[int] | None


def manifest_inputs() -> st.SearchStrategy[Input]:
    """Manifests of every shape: with mutated lines, or with mutated bytes anywhere."""
    return st.one_of(_json_lines(), _json_array(), _delimited(), _kaldi(), _librispeech(), _mutated_bytes(), _random())


def _json_object(entry: Good, index: int) -> str:
    fields = [("audio_filepath", "text"), ("file_name", "transcription"), ("wav_filename", "transcript")][index % 3]
    return json.dumps(dict(zip(fields, (entry.audio, entry.text), strict=True)), ensure_ascii=index % 2 == 0)


@st.composite
def _json_lines(draw: st.DrawFn) -> Input:
    lines = draw(lines_of(_json_object))
    return draw(_file(lines, 1, "jsonl", "json"))


@st.composite
def _json_array(draw: st.DrawFn) -> Input:
    lines = draw(lines_of(_json_object))
    # A mutated object can end the array, so that nothing is expected of the others.
    text = "[\n" + ",\n".join(lines.lines) + "\n]\n"
    return Input.of(draw(st.sampled_from(("json", "jsonl"))), draw(_encoded(text)))


@st.composite
def _delimited(draw: st.DrawFn) -> Input:
    delimiter = draw(st.sampled_from(",;\t"))
    header = draw(st.sampled_from((("filename", "transcript"), ("path", "sentence"), ("audio_filepath", "text"))))
    columns = draw(st.permutations(("id", *header, "votes")))

    def write(entry: Good, index: int) -> str:
        fields = {"id": f"{index}", header[0]: entry.audio, header[1]: entry.text, "votes": "2"}
        row = [fields[name] for name in columns]
        if delimiter == "\t":
            return "\t".join(row)
        line = io.StringIO()
        csv.writer(line, delimiter=delimiter, lineterminator="").writerow(row)
        return line.getvalue()

    lines = draw(lines_of(write))
    titled = Lines((delimiter.join(columns), *lines.lines), {index + 1: entry for index, entry in lines.good.items()})
    return draw(_file(titled, 2, "tsv" if delimiter == "\t" else "csv", accounted=delimiter == "\t"))


@st.composite
def _kaldi(draw: st.DrawFn) -> Input:
    def wav_list(entry: Good, index: int) -> str:
        return f"call{index} ../{entry.audio}"

    recordings = draw(lines_of(wav_list, most=4))
    texts = draw(lines_of(lambda entry, index: f"call{index} {entry.text}", most=4))
    files = {f"{NAME}/wav.scp": _text(recordings), f"{NAME}/text": _text(texts)}
    # A mutated line can have the name of another recording, which then counts as listed twice.
    refused = _first_words(recordings) | _first_words(texts)
    good = {
        index + 1: Good(entry.audio, texts.good[index].text)
        for index, entry in recordings.good.items()
        if index in texts.good and f"call{index}" not in refused
    }
    expected: Expected | None = Expected(good, None)
    if draw(st.booleans()):
        segments = draw(lines_of(lambda entry, index: f"part{index} call{index % 2} {index / 10} {index + 1}", most=4))
        files[f"{NAME}/segments"] = _text(segments)
        expected = None
    path = NAME if draw(st.booleans()) else f"{NAME}/wav.scp"
    return Input({name: draw(_encoded(text)) for name, text in files.items()}, path, expected=expected)


def _mutated_lines(lines: Lines) -> list[str]:
    return [line for index, line in enumerate(lines.lines) if index not in lines.good]


def _first_words(lines: Lines) -> set[str]:
    return {line.split(maxsplit=1)[0] for line in _mutated_lines(lines) if line.split()}


@st.composite
def _librispeech(draw: st.DrawFn) -> Input:
    lines = draw(lines_of(lambda entry, index: f"84-1-000{index} {entry.text.upper()}"))
    good = {index + 1: Good(f"84-1-000{index}.flac", entry.text) for index, entry in lines.good.items()}
    folder = f"{NAME}/84/1"
    files = {f"{folder}/84-1.trans.txt": draw(_encoded(_text(lines)))}
    if draw(st.booleans()):
        files[f"{NAME}/85/1/85-1.trans.txt"] = draw(st.binary(max_size=60))
        # Its lines have the same numbers.
        return Input(files, NAME, expected=Expected(good, None))
    return Input(files, NAME, expected=Expected(good, _not_blank(lines, 1)))


def _text(lines: Lines) -> str:
    return "".join(f"{line}\n" for line in lines.lines)


def _not_blank(lines: Lines, first: int) -> frozenset[int]:
    return frozenset(number for number, line in enumerate(lines.lines, 1) if number >= first and line.strip())


@st.composite
def _file(draw: st.DrawFn, lines: Lines, first: int, *suffixes: str, accounted: bool = True) -> Input:
    """A manifest in a file.

    Args:
        draw: Given by hypothesis.
        lines: Its lines.
        first: Number of the first line after the header.
        suffixes: Suffixes that it may have.
        accounted: Whether each line is an utterance or a problem.
    """
    end = draw(st.sampled_from(("\n", "\n", "\r\n")))
    good = {index + 1: entry for index, entry in lines.good.items()}
    content = draw(_encoded("".join(line + end for line in lines.lines)))
    suffix = draw(st.sampled_from([*suffixes, *(f"{suffix}.gz" for suffix in suffixes)]))
    return Input.of(suffix, content, Expected(good, _not_blank(lines, first) if accounted else None))


def _encoded(text: str) -> st.SearchStrategy[bytes]:
    writers: tuple[Callable[[str], bytes], ...] = (
        lambda text: text.encode(),
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: gzip.compress(text.encode(), mtime=0),
    )
    return st.sampled_from(writers).map(lambda write: write(text))


@st.composite
def _mutated_bytes(draw: st.DrawFn) -> Input:
    """A manifest with mutated bytes, which may change its encoding, line breaks or header."""
    whole = draw(st.one_of(_json_lines(), _json_array(), _delimited(), _kaldi(), _librispeech()))
    name = draw(st.sampled_from(sorted(whole.files)))
    content = whole.files[name]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(content)))
        inserted = draw(st.binary(max_size=4) | st.sampled_from((b"\n", b"\r", b"\0", b"\xff", b'"', content)))
        content = content[:place] + inserted + content[place + draw(st.integers(0, 2)) :]
    return Input({**whole.files, name: content}, whole.path)


def _random() -> st.SearchStrategy[Input]:
    suffixes = st.sampled_from(("jsonl", "csv", "tsv", "json.gz", "scp"))
    return st.builds(Input.of, suffixes, st.binary(max_size=200))
