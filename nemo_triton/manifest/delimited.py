"""Entries of CSV and TSV manifests. A bad line costs itself, and no other line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from nemo_triton.audio_decoders import AUDIO_SUFFIXES
from nemo_triton.manifest.entry import AUDIO_FIELDS, DECIMAL_COMMA, TIME_FIELDS, Entry, plain_name

_DELIMITERS = (",", ";", "\t", "|")
_PLAIN_QUOTES = ("\t", "|")
"""Delimiters of tables in which a quote is ordinary text unless a field is wholly quoted."""
_SEPARATOR_LINE = re.compile(r"\"?sep=([^\w\s\"]|\t)\"?[ \r\n]*", re.IGNORECASE)
"""The first line of a CSV for Excel, such as `sep=;`. It names the delimiter; Excel doesn't show it."""
_LONGEST_RECORD = 100
"""Lines of a record with line breaks between quotes. More are taken as a quote that was never closed."""

_NEVER_CLOSED = "a quote is never closed"


@dataclass(frozen=True)
class _Table:
    """The form of a table, from its header.

    Attributes:
        names: Names of the columns, as in the header.
        delimiter: Character between fields.
        audio: Index of the column with audio files.
        times: Names of the columns with seconds.
    """

    names: Sequence[str]
    delimiter: str
    audio: int
    times: Sequence[str]


def delimited_entries(content: str) -> Iterator[Entry] | None:
    """Entries of a CSV or TSV with a header.

    Fields are separated by commas, semicolons, tabs or |, which is found out from the header, or by what a line such as
    `sep=;` before the header says.

    Returns:
        The entries; None if the header names no column of audio files.
    """
    # newline="" keeps line ends, which belong to quoted texts; splitlines() would also split at U+2028 and others.
    lines = list(io.StringIO(content, newline=""))
    start, delimiters = _find_header(lines)
    table = _header(lines[start], delimiters) if start < len(lines) else None
    return _rows(lines, start + 1, table) if table else None


def header_names(content: str) -> list[str]:
    """Names of the columns in what would be the header of a CSV or TSV; none if there is no line for it."""
    lines = list(io.StringIO(content, newline=""))
    start, delimiters = _find_header(lines)
    headers = [_names(lines[start], delimiter) for delimiter in delimiters] if start < len(lines) else []
    return max(headers, key=len, default=[])


def _find_header(lines: Sequence[str]) -> tuple[int, Sequence[str]]:
    """The index of the header, which is the number of lines if there is none, and the delimiters that it can have."""
    start = _next_line(lines, 0)
    if start < len(lines) and (separator := _SEPARATOR_LINE.fullmatch(lines[start])):
        return _next_line(lines, start + 1), separator[1]
    return start, _DELIMITERS


def _next_line(lines: Sequence[str], start: int) -> int:
    """The index of the first line that is not blank."""
    return next((index for index in range(start, len(lines)) if lines[index].strip()), len(lines))


def _header(line: str, delimiters: Sequence[str]) -> _Table | None:
    tables = []
    for delimiter in delimiters:
        names = _names(line, delimiter)
        plain_names = [plain_name(name) for name in names]
        known = [name for name in AUDIO_FIELDS if name in plain_names]
        if known:
            times = [name for name in names if plain_name(name) in TIME_FIELDS]
            tables.append(_Table(names, delimiter, plain_names.index(known[0]), times))
    return max(tables, key=lambda table: len(table.names), default=None)


def _names(line: str, delimiter: str) -> list[str]:
    return [name.strip() for name in _parse([line], delimiter) or ()]


def _rows(lines: Sequence[str], start: int, table: _Table) -> Iterator[Entry]:
    index = start
    while index < len(lines):
        line, used = lines[index], 1
        if line.isspace():
            index += 1
            continue
        fields: list[str] | ValueError
        if table.delimiter in _PLAIN_QUOTES:
            fields = _with_plain_quotes(line, table)
        elif '"' in line:
            fields, used = _quoted_record(lines, index, table)
        else:
            fields = [field.lstrip(" ") for field in line.rstrip("\r\n").split(table.delimiter)]
        if isinstance(fields, ValueError):
            yield index + 1, fields
        elif any(field.strip() for field in fields):
            yield index + 1, _named(fields, table)
        # Spreadsheets write rows of empty fields after the last one.
        index += used


def _named(fields: list[str], table: _Table) -> dict[str, str] | ValueError:
    # Empty fields at the end cut nothing; spreadsheets write them.
    if any(fields[len(table.names) :]):
        quotable = "a tab" if table.delimiter == "\t" else f"a {table.delimiter}"
        return ValueError(
            f"has {len(fields)} fields, the header has {len(table.names)}; "
            f"put quotes around a text with {quotable} in it"
        )
    entry = dict(zip(table.names, fields, strict=False))
    if table.delimiter != ",":
        # Where spreadsheets write 3,5 for 3.5, they don't separate fields by commas.
        for name in table.times:
            if DECIMAL_COMMA.fullmatch(entry.get(name, "").strip()):
                entry[name] = entry[name].replace(",", ".")
    return entry


def _parse(lines: Sequence[str], delimiter: str) -> list[str] | None:
    """The only record of these lines; None if its quotes are wrong."""
    try:
        return next(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
    except (csv.Error, StopIteration):
        return None


def _quoted_record(lines: Sequence[str], index: int, table: _Table) -> tuple[list[str] | ValueError, int]:
    """The record that starts at a line with a quote, and its number of lines."""
    reader = csv.reader(
        _record_lines(lines, index, table), delimiter=table.delimiter, skipinitialspace=True, strict=True
    )
    try:
        fields = next(reader)
    except csv.Error as error:
        # In a later line, what is wrong is the quote that the first line opened.
        never_closed = reader.line_num > 1 or "end of data" in str(error)
        return _bad_quotes(_NEVER_CLOSED if never_closed else str(error)), 1
    if reader.line_num > 1 and len(fields) != len(table.names):
        return _bad_quotes(_NEVER_CLOSED), 1
    return fields, reader.line_num


def _bad_quotes(reason: str) -> ValueError:
    return ValueError(f'not valid CSV ({reason}); close the quotes, and write a quote inside a text as ""')


def _record_lines(lines: Sequence[str], index: int, table: _Table) -> Iterator[str]:
    """Lines that may belong to the record that starts here, up to a line that is itself a row."""
    yield lines[index]
    # Each field has one line with its opening and one with its closing quote.
    quotes = 2 * len(table.names)
    for line in lines[index + 1 : index + _LONGEST_RECORD]:
        quotes -= '"' in line.replace('""', "")
        if quotes <= 0 or _names_audio(line, table):
            return
        yield line


def _names_audio(line: str, table: _Table) -> bool:
    fields = line.split(table.delimiter)
    if len(fields) < len(table.names):
        return False
    return PurePath(fields[table.audio].strip('" \r\n')).suffix.lower() in AUDIO_SUFFIXES


def _with_plain_quotes(line: str, table: _Table) -> list[str]:
    """Fields of a line in which a quote is ordinary text unless a field is wholly quoted."""
    fields = line.rstrip("\r\n").split(table.delimiter)
    if table.delimiter == "|":
        # People align these columns by blanks.
        fields = [field.strip(" ") for field in fields]
    if '"' not in line:
        return fields
    if any(fields[len(table.names) :]):
        quoted = _parse([line], table.delimiter)
        if quoted is not None and len(quoted) == len(table.names):
            return quoted
    return [_without_quotes(field) for field in fields]


def _without_quotes(field: str) -> str:
    inner = field[1:-1]
    if len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return field
