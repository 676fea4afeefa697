"""Downloads by name: refused before anything is downloaded, or from the catalogue's address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command import invoke_export, run_export
from locations import DEMO_CHECKPOINT

from export_scripts.checkpoints import catalogue, listed_model
from export_scripts.checkpoints.catalogue import CATALOGUE
from export_scripts.checkpoints.downloads import download
from export_scripts.checkpoints.listed_model import Model
from export_scripts.checkpoints.refused_models import REFUSED, refusal_of
from export_scripts.errors import ExportError

UNLISTED = Model("stt_en_unlisted", "citrinet", 1.0, ngc_version="1.2.0")
"""A model that no NeMo lists, as later releases don't list some of the 22."""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a local server serves in the place of the NGC catalogue, and an empty cache for NeMo."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    monkeypatch.setattr(listed_model, "NGC_FILES", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(catalogue, "CATALOGUE", (*CATALOGUE, UNLISTED))
    monkeypatch.setenv("NEMO_CACHE_DIR", str(tmp_path / "cache"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_that_nemo_does_not_list_comes_from_the_catalogues_address(site: Path, tmp_path: Path) -> None:
    file = site / "stt_en_unlisted" / "versions" / "1.2.0" / "files" / "stt_en_unlisted.nemo"
    file.parent.mkdir(parents=True)
    file.write_bytes(DEMO_CHECKPOINT.read_bytes())
    downloaded = download(UNLISTED.name)
    assert downloaded.is_relative_to(tmp_path / "cache")
    assert downloaded.name == "stt_en_unlisted.nemo"
    assert downloaded.read_bytes() == DEMO_CHECKPOINT.read_bytes()
    file.unlink()
    assert download(UNLISTED.name) == downloaded, "from the cache"


@pytest.mark.usefixtures("site")
def test_a_failed_download_is_one_line(tmp_path: Path) -> None:
    result = invoke_export(UNLISTED.name, "--repository", tmp_path / "repository")
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 2
    assert line.startswith(f"error: {UNLISTED.name}: no such file, and it could not be downloaded (")
    assert not (tmp_path / "repository").exists()


def test_a_name_that_nobody_lists(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"stt_en_unlisted: neither a \.nemo file nor a pretrained model that NeMo knows"
    ):
        download(UNLISTED.name)


class Unreachable:
    """NeMo's ASRModel without a network."""

    @staticmethod
    def get_available_model_names() -> list[str]:
        return []

    @staticmethod
    def from_pretrained(name: str, **_: object) -> str:
        # Packages of the export environment; the fast tests of this file run in the other.
        from requests.exceptions import ConnectionError as RequestsConnectionError
        from urllib3 import HTTPSConnectionPool
        from urllib3.exceptions import MaxRetryError

        pool = HTTPSConnectionPool("huggingface.co", port=443)
        raise RequestsConnectionError(MaxRetryError(pool, f"/{name}", OSError("no route")), "(Request ID: 1)")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nvidia/parakeet-tdt-0.6b-v9", "do you mean nvidia/parakeet-tdt-0.6b-v3? Or "),
        ("nvidia/parakeet-tdt-0.6b-v2", ""),
        ("nvidia/nothing_like_it", ""),
    ],
)
def test_a_host_that_can_not_be_reached_is_named(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    monkeypatch.setattr("nemo.collections.asr.models.ASRModel", Unreachable)
    with pytest.raises(ExportError) as caught:
        download(name)
    assert str(caught.value) == (
        f"{name}: no such file, and it could not be downloaded (huggingface.co can't be reached); {hint}"
        "check the path, or the name and the network"
    )


@pytest.mark.fast
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((kind.example, kind.kind) for kind in REFUSED),
        ("canary-1b", "a Canary model, "),
        ("nvidia/canary-qwen-2.5b", "a Canary model, "),
        ("nvidia/canary-180m-flash", "a Canary model, "),
        ("nvidia/stt_en_fastconformer_hybrid_medium_streaming_80ms_pc", "a streaming (cache-aware) model"),
        ("stt_en_fastconformer_hybrid_large_streaming_1040ms", "a streaming (cache-aware) model"),
        ("nvidia/nemotron-speech-streaming-en-0.6b", "a streaming (cache-aware) model"),
        ("stt_enes_conformer_ctc_large_codesw", "a model with one vocabulary per language"),
        ("stt_en_squeezeformer_ctc_small_medium_ls", "a Squeezeformer"),
    ],
)
def test_kinds_that_can_not_be_exported_are_known_by_name(name: str, kind: str) -> None:
    reason = refusal_of(name)
    assert reason is not None
    assert reason.startswith(kind) and ", can't be exported; choose " in reason


@pytest.mark.fast
def test_no_listed_model_is_refused() -> None:
    assert [model.name for model in CATALOGUE if refusal_of(model.name)] == []
    assert refusal_of("owner/canary-1b") is None, "another owner's model may be anything"
    assert refusal_of("my_streaming_model") is None


def test_refused_names_are_one_line_each_without_a_download(tmp_path: Path) -> None:
    """In an empty home without a network: a download would end with another line, and leave a cache."""
    home = tmp_path / "home"
    home.mkdir()
    names = ["nvidia/canary-1b", "stt_en_fastconformer_hybrid_large_streaming_multi"]
    result = run_export(*names, "--repository", tmp_path / "repository", home=home)
    first, second = result.stderr.splitlines()
    assert result.returncode == 2
    assert first == (
        "error: nvidia/canary-1b: a Canary model, which has an attention decoder, can't be exported; choose a CTC, "
        "RNNT or TDT model, such as nvidia/parakeet-tdt-0.6b-v2"
    )
    assert second.startswith(
        f"error: {names[1]}: a streaming (cache-aware) model, can't be exported; choose an offline "
    )
    assert list(home.iterdir()) == [] and not (tmp_path / "repository").exists()
