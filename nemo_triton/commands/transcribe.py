"""The command that turns speech files into text: `python client/transcribe.py FILES|FOLDER|MANIFEST ...`."""

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


@dataclass(frozen=True)
class Result:
    """What came of one utterance: a text, or an error.

    Attributes:
        utterance: What was recognized.
        text: Its transcript.
        duration: Of its audio, in seconds.
        error: One line; None if there is a text.
    """

    utterance: Utterance
    text: str = ""
    duration: float = 0.0
    error: str | None = None


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILES|FOLDER|MANIFEST...")
@options.connection_options
@click.option(
    "--format",
    "style",
    type=click.Choice(["txt", "jsonl"]),
    default="txt",
    show_default=True,
    help="txt: one line for each file, its path, a tab and its text; for a single audio file the text alone. "
    "jsonl: one NeMo-style object for each file, with audio_filepath, duration, pred_text and, "
    "where the manifest has it, text.",
)
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True),
    callback=options.check_output,
    help="Write here instead of to standard output.",
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
    """Print the text spoken in audio files.

    Each of the arguments is an audio file of any format and sample rate, a folder (all audio files in it, sorted), or
    a manifest (.json, .jsonl: NeMo JSON lines; .csv: filename,transcript). Results come in that order, each as soon as
    it and those before it are done. A file that fails gives one line on standard error and no result; the exit code is
    then 2.
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
    """The writing of results as they come, and the count of them, which outlives an interrupt."""

    line: Callable[[Result], str]
    total: int
    failed: int = 0
    done: int = 0

    async def all(
        self, recognizer: AsyncRecognizer, utterances: Sequence[Utterance], output: str | None, concurrency: int
    ) -> None:
        """Transcribe `utterances` and write the lines to the file `output`, or to stdout."""
        async with recognizer:
            with (
                Path(output).open("w", encoding="utf-8", errors="surrogateescape")
                if output
                else nullcontext(sys.stdout) as stream,
                # Lines scrolling by on the terminal are progress enough, and a bar among them would tear them.
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
        # Flushed line by line, so that a reader of a pipe sees each at once and an interrupt loses none.
        print(self.line(result), file=stream, flush=True)
        self.done += 1


def transcribe_all(
    recognizer: AsyncRecognizer, utterances: Sequence[Utterance], concurrency: int
) -> AsyncGenerator[Result, None]:
    """Read and recognize `utterances`, `concurrency` at a time; results come in their order, failures included."""

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
