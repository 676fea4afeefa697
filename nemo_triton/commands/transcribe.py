"""The command `python client/transcribe.py FILES|FOLDER|MANIFEST...`, which transcribes audio files."""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from nemo_triton.audio import Channel, Samples, seconds
from nemo_triton.concurrency import map_in_order
from nemo_triton.errors import AudioError, RecognitionError
from nemo_triton.manifest import Utterance, find_audio
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.terminal import exit_codes, options
from nemo_triton.terminal.channel_option import channel_option
from nemo_triton.terminal.native_output import only_python_prints
from nemo_triton.terminal.outputs import check_not_an_input
from nemo_triton.tls import Tls
from nemo_triton.utterances import load_utterance, load_utterance_channels

_SURROGATE = re.compile("[\ud800-\udfff]")
_SECTIONS = {
    "Server": ("model", "url", "timeout", "concurrency"),
    "Input": ("channel",),
    "Output": ("style", "output"),
    "TLS": ("tls", "ca", "certificate", "key"),
}


@dataclass(frozen=True)
class Result:
    """The result of one utterance: a text or an error.

    Attributes:
        utterance: The utterance.
        channel: Number of its channel if each channel is transcribed; None otherwise.
        text: Transcript of the utterance; empty if the request failed.
        duration: Seconds of audio.
        error: One line; None if there is a text.
    """

    utterance: Utterance
    channel: int | None = None
    text: str = ""
    duration: float = 0.0
    error: str | None = None


@click.command(cls=options.SectionedCommand, sections=_SECTIONS)
@click.argument("paths", nargs=-1, required=True, metavar="FILES|FOLDER|MANIFEST...")
@options.connection_options
@channel_option(
    "Channel of stereo files; N counts from 0. each transcribes every channel by itself, such as the two talkers of a "
    "call: one result per channel. A manifest's channel field takes precedence.",
    each=True,
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["txt", "jsonl"]),
    default="txt",
    show_default=True,
    help="txt: one line per file (path, tab, text); for a single file just its text. jsonl: one object per file with "
    "the manifest's fields, audio_filepath, duration and pred_text. Both name the channel with --channel each.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    callback=options.check_output,
    help="Write to this file instead of stdout.",
)
@options.concurrency_option(default=8)
def transcribe(
    paths: tuple[str, ...],
    model: str | None,
    url: str,
    timeout: float,
    tls: Tls | None,
    channel: Channel | None,
    style: str,
    output: str | None,
    concurrency: int,
) -> int:
    """Print the transcripts of audio files.

    Give audio or video files of any format and sample rate, folders (all audio files in them, sorted) or manifests
    (JSON lines, CSV and other forms; see docs/client.md).

    Results keep that order. A file that fails prints one line to stderr; the other files are transcribed and the exit
    code is 2.
    """
    listed = find_audio(paths, keep_fields=style == "jsonl")
    inputs = [*listed.sources, *map(Path, paths), *(utterance.audio for utterance in listed.utterances)]
    check_not_an_input("--output", Path(output) if output else None, inputs)
    for problem in listed.problems:
        exit_codes.print_error(problem)
    for note in listed.notes:
        exit_codes.print_warning(note)
    single_file = len(paths) == 1 and [Path(paths[0])] == [utterance.audio for utterance in listed.utterances]
    json_line = partial(_json_line, channel=channel)
    line = json_line if style == "jsonl" else _text if single_file and channel is not None else _text_line
    recognizer = AsyncRecognizer(model, url, timeout, tls)
    run = Run(line, total=len(listed.utterances), failed=len(listed.problems))
    try:
        with only_python_prints():
            asyncio.run(run.all(recognizer, listed.utterances, channel, output, concurrency))
    except KeyboardInterrupt:
        exit_codes.print_error(f"interrupted; {run.done} of {run.total} files were transcribed")
        return exit_codes.EXIT_INTERRUPTED
    return exit_codes.EXIT_PROBLEM if run.failed else exit_codes.EXIT_OK


@dataclass
class Run:
    """A run that writes results and counts them, so that an interrupted command can report its progress.

    Attributes:
        line: Function that formats a result.
        total: Number of files.
        failed: Number of files that failed.
        done: Number of files that were transcribed.
    """

    line: Callable[[Result], str]
    total: int
    failed: int = 0
    done: int = 0

    async def all(
        self,
        recognizer: AsyncRecognizer,
        utterances: Sequence[Utterance],
        channel: Channel | None,
        output: str | None,
        concurrency: int,
    ) -> None:
        """Transcribe all utterances and write the results.

        Args:
            recognizer: A recognizer, not yet connected.
            utterances: The files.
            channel: Channel to transcribe; None transcribes each by itself.
            output: Path of the file to write; None writes to stdout.
            concurrency: Number of concurrent requests.
        """
        async with recognizer:
            with (
                Path(output).open("w", encoding="utf-8", errors="surrogateescape")
                if output
                else nullcontext(sys.stdout) as stream,
                # On a terminal the lines themselves show progress, and a bar would disturb them.
                options.progress_bar(visible=not stream.isatty()) as progress,
            ):
                task = progress.add_task("transcribing", total=self.total)

                def write(results: list[Result]) -> None:
                    for result in results:
                        self._write(result, stream)
                    self.done += all(result.error is None for result in results)
                    progress.advance(task)

                # An interrupt also writes the files that wait for an earlier one.
                async with aclosing(
                    transcribe_all(recognizer, utterances, channel, concurrency, on_interrupt=write)
                ) as files:
                    async for results in files:
                        write(results)

    def _write(self, result: Result, stream: TextIO) -> None:
        if result.error is not None:
            self.failed += 1
            exit_codes.print_error(result.error)
            return
        # Flush each line, so that a pipe gets it immediately and an interrupt loses none.
        print(self.line(result), file=stream, flush=True)


def transcribe_all(
    recognizer: AsyncRecognizer,
    utterances: Sequence[Utterance],
    channel: Channel | None,
    concurrency: int,
    on_interrupt: Callable[[list[Result]], object],
) -> AsyncGenerator[list[Result], None]:
    """Transcribe utterances with `concurrency` concurrent requests.

    Args:
        recognizer: A connected recognizer.
        utterances: The files.
        channel: Channel to transcribe; None transcribes each by itself, one after the other.
        concurrency: Number of concurrent requests.
        on_interrupt: Called on an interrupt with the results of each file that waits for an earlier one.

    Returns:
        The results of each file, failures included, in the order of the files: one, or one per channel.
    """

    async def transcribe_file(utterance: Utterance) -> list[Result]:
        try:
            if channel is not None:
                samples = await asyncio.to_thread(load_utterance, utterance, channel)
                return [await transcribe_samples(utterance, samples, None)]
            channels = await asyncio.to_thread(load_utterance_channels, utterance)
        except AudioError as error:
            return [Result(utterance, error=utterance.problem(error))]
        return [await transcribe_samples(utterance, samples, number) for number, samples in channels.items()]

    async def transcribe_samples(utterance: Utterance, samples: Samples, number: int | None) -> Result:
        try:
            transcript = await recognizer.transcribe(samples)
        except RecognitionError as error:
            where = utterance.name if number is None else f"{utterance.name} (channel {number})"
            return Result(utterance, number, error=f"{where}: {error}")
        return Result(utterance, number, transcript.text, seconds(samples))

    return map_in_order(transcribe_file, utterances, concurrency, on_interrupt=on_interrupt)


def _text(result: Result) -> str:
    return result.text


def _text_line(result: Result) -> str:
    columns = [result.utterance.name, *([] if result.channel is None else [f"channel {result.channel}"]), result.text]
    return "\t".join(columns)


def _json_line(result: Result, channel: Channel | None) -> str:
    """Format a result like an entry of a manifest, with the channel if the entry or --channel names one.

    The entry's other fields go first. As in NeMo's transcribe_speech.py, pred_text replaces one that the entry has.
    """
    utterance = result.utterance
    entry = {
        **{name: _finite(value) for name, value in utterance.other_fields.items()},
        "audio_filepath": str(utterance.audio),
        "duration": round(result.duration, 4),
    }
    if utterance.offset is not None:
        entry["offset"] = utterance.offset
    named = utterance.channel if result.channel is None else result.channel
    if named is not None:
        entry["channel"] = named
    elif channel is not None and channel != "average":
        entry["channel"] = channel
    if result.utterance.text is not None:
        entry["text"] = result.utterance.text
    line = json.dumps(entry | {"pred_text": result.text}, ensure_ascii=False, allow_nan=False)
    # Half of a surrogate pair, which JSON can hold and UTF-8 can't.
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def _finite(value: Any) -> Any:
    """A JSON value with null for NaN and infinite numbers, which Python reads and other programs refuse."""
    if isinstance(value, dict):
        return {name: _finite(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_finite(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> NoReturn:
    """Run the command and end this process with its exit code."""
    options.run(transcribe)


if __name__ == "__main__":
    main()
