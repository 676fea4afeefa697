"""Requests of different lengths share a batch in every stage but the first, which batches equal lengths only."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import text_format
from locations import DEMO_CHECKPOINT, DEMO_MANIFEST, RNNT_CHECKPOINT
from tritonclient.grpc import model_config_pb2 as triton_config

from nemo_triton.audio import Samples, load_audio
from nemo_triton.loadtest.server_counters import difference
from nemo_triton.loadtest.servers import Servers
from nemo_triton.recognizer import AsyncRecognizer
from server.process import running_server

QUEUE_DELAY_US = 20_000_000
"""A full batch runs immediately. Only an incomplete batch waits this long."""


@pytest.fixture(scope="module")
def waiting_server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC endpoint of a server whose ragged stages wait for a full batch."""
    copy = tmp_path_factory.mktemp("waiting") / "repository"
    shutil.copytree(repository, copy)
    for file in copy.glob("*/config.pbtxt"):
        config = text_format.Parse(file.read_text(), triton_config.ModelConfig())
        config.max_batch_size = 16
        if any(tensor.allow_ragged_batch for tensor in config.input):
            config.dynamic_batching.max_queue_delay_microseconds = QUEUE_DELAY_US
        file.write_text(text_format.MessageToString(config))
    with running_server(copy) as server:
        yield server.grpc


@pytest.mark.parametrize("model", [DEMO_CHECKPOINT.stem, RNNT_CHECKPOINT.stem])
async def test_sixteen_lengths_are_one_batch(waiting_server: str, triton_of_all: str, model: str) -> None:
    recordings = sixteen_lengths()
    async with AsyncRecognizer(model, triton_of_all) as recognizer:
        expected = [(await recognizer.transcribe(samples)).text for samples in recordings]
    async with AsyncRecognizer(model, waiting_server) as recognizer:
        servers = Servers(recognizer)
        before = await servers.step_counters()
        transcripts = await asyncio.gather(*map(recognizer.transcribe, recordings))
        steps = difference(before, await servers.step_counters())
    assert [transcript.text for transcript in transcripts] == expected
    assert len(set(expected)) > 8
    assert [(step.inferences, step.executions) for step in steps] == [(16, 16), (16, 1), (16, 1), (16, 1)]


def sixteen_lengths() -> list[Samples]:
    recordings = [load_audio(file) for file in sorted(DEMO_MANIFEST.parent.glob("*.flac"))[:16]]
    by_length = {len(samples): samples for samples in recordings}
    assert len(by_length) == 16
    return list(by_length.values())
