"""The command `python client/transcribe.py FILES|FOLDER|MANIFEST...`, which transcribes audio files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TextIO

import click

from nemo_triton.audio import load_audio, seconds
from nemo_triton.concurrency import map_in_order
from nemo_triton.errors import AudioError, RecognitionError
from nemo_triton.manifest import MANIFEST_SUFFIXES, Utterance, find_audio
from nemo_triton.recognizer import AsyncRecognizer
from nemo_triton.terminal import exit_codes, options
from nemo_triton.tls import Tls

_SECTIONS = {
    "Server": ("model", "url", "timeout", "concurrency"),
    "Output": ("style", "output"),
    "TLS": ("tls", "ca", "certificate", "key"),
}


@dataclass(frozen=True)
class Result:
    """The result of one utterance: a text or an error.

    Attributes:
        utterance: The utterance.
        text: Transcript of the utterance; empty if the request failed.
        duration: Seconds of audio.
        error: One line; None if there is a text.
    """

    utterance: Utterance
    text: str = ""
    duration: float = 0.0
    error: str | None = None


@click.command(cls=options.SectionedCommand, sections=_SECTIONS)
@click.argument("paths", nargs=-1, required=True, metavar="FILES|FOLDER|MANIFEST...")
@options.connection_options
@click.option(
    "--format",
    "style",
    type=click.Choice(["txt", "jsonl"]),
    default="txt",
    show_default=True,
    help="txt: one line per file (path, tab, text); for a single file just its text. jsonl: one object per file with "
    "audio_filepath, duration, pred_text and the manifest's text.",
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
    style: str,
    output: str | None,
    concurrency: int,
) -> int:
    """Print the transcripts of audio files.

    Give audio files of any format and sample rate, folders (all audio files in them, sorted) or manifests (.json,
    .jsonl: NeMo JSON lines; .csv: filename,transcript).

    Results keep that order. A file that fails prints one line to stderr; the other files are transcribed and the exit
    code is 2.
    """
    listed = find_audio(paths)
    for problem in listed.problems:
        exit_codes.print_error(problem)
    single_file = (
        len(paths) == 1 and not Path(paths[0]).is_dir() and Path(paths[0]).suffix.lower() not in MANIFEST_SUFFIXES
    )
    line = _json_line if style == "jsonl" else _text if single_file else _text_line
    recognizer = AsyncRecognizer(model, url, timeout, tls)
    run = Run(line, total=len(listed.utterances), failed=len(listed.problems))
    try:
        asyncio.run(run.all(recognizer, listed.utterances, output, concurrency))
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
        self, recognizer: AsyncRecognizer, utterances: Sequence[Utterance], output: str | None, concurrency: int
    ) -> None:
        """Transcribe all utterances and write the results.

        Args:
            recognizer: A recognizer, not yet connected.
            utterances: The files.
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
                async with aclosing(transcribe_all(recognizer, utterances, concurrency)) as results:
                    async for result in results:
                        self._write(result, stream)
                        progress.advance(task)

    def _write(self, result: Result, stream: TextIO) -> None:
        if result.error is not None:
            self.failed += 1
            exit_codes.print_error(result.error)
            return
        # Flush each line, so that a pipe gets it immediately and an interrupt loses none.
        print(self.line(result), file=stream, flush=True)
        self.done += 1


def transcribe_all(
    recognizer: AsyncRecognizer, utterances: Sequence[Utterance], concurrency: int
) -> AsyncGenerator[Result, None]:
    """Transcribe utterances with `concurrency` concurrent requests; results keep their order, failures included."""

    async def transcribe_one(utterance: Utterance) -> Result:
        try:
            samples = await asyncio.to_thread(load_audio, utterance.audio)
            transcript = await recognizer.transcribe(samples)
        except AudioError as error:
            return Result(utterance, error=str(error))
        except RecognitionError as error:
            return Result(utterance, error=f"{utterance.name}: {error}")
        return Result(utterance, transcript.text, seconds(samples))

    return map_in_order(transcribe_one, utterances, concurrency)


def _text(result: Result) -> str:
    return result.text


def _text_line(result: Result) -> str:
    return f"{result.utterance.name}\t{result.text}"


def _json_line(result: Result) -> str:
    entry: dict[str, str | float] = {"audio_filepath": result.utterance.name, "duration": round(result.duration, 4)}
    if result.utterance.text is not None:
        entry["text"] = result.utterance.text
    return json.dumps(entry | {"pred_text": result.text}, ensure_ascii=False)


def main() -> NoReturn:
    """Run the command and end this process with its exit code."""
    options.run(transcribe)


if __name__ == "__main__":
    main()
