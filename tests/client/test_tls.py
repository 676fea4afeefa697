"""TLS and mTLS with real servers and certificates of docker/tls/make_certificates.sh."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bench_files import Spoken
from locations import ROOT
from waiting import wait_until_async

from nemo_triton.audio import load_audio
from nemo_triton.errors import ServerUnavailableError, TlsError
from nemo_triton.recognizer import AsyncRecognizer, Recognizer, list_recognizers
from nemo_triton.tls import Tls
from server.process import running_server

SCRIPT = ROOT / "docker" / "tls" / "make_certificates.sh"
FILES = ["ca.pem", "client.key", "client.pem", "server.key", "server.pem"]


def make_certificates(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(SCRIPT), str(folder), *names], capture_output=True, text=True)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "ours"
    assert make_certificates(folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of another CA."""
    folder = tmp_path_factory.mktemp("tls") / "others"
    assert make_certificates(folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def flags(ours: Path, triton: Any) -> list[str]:
    """Triton's options for TLS."""
    certificate = [f"--grpc-server-cert={ours / 'server.pem'}", f"--grpc-server-key={ours / 'server.key'}"]
    return ["--model-control-mode=explicit", f"--load-model={triton.model}", "--grpc-use-ssl=true", *certificate]


@pytest.fixture(scope="module")
def mutual_flags(ours: Path, flags: list[str]) -> list[str]:
    return [*flags, "--grpc-use-ssl-mutual=true", f"--grpc-root-cert={ours / 'ca.pem'}"]


@pytest.fixture(scope="module")
def secured(repository: Path, flags: list[str]) -> Iterator[str]:
    """The URL of a server with TLS, by a host name in its certificate."""
    with running_server(repository, flags) as server:
        yield f"localhost:{server.grpc.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def mutual(repository: Path, mutual_flags: list[str]) -> Iterator[str]:
    """The URL of a server that requires a client certificate."""
    with running_server(repository, mutual_flags) as server:
        yield f"localhost:{server.grpc.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def text(triton: Any, spoken: Spoken) -> str:
    with Recognizer(triton.model, triton.url) as recognizer:
        return recognizer.transcribe(load_audio(spoken[0][0])).text


def shown(folder: Path, certificate: str = "client") -> tuple[object, ...]:
    return ("--certificate", folder / f"{certificate}.pem", "--key", folder / f"{certificate}.key")


def assert_one_line(done: Any, *says: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    for each in says:
        assert each in done.stderr


def test_the_right_ca(secured: str, ours: Path, run_command: Any, spoken: Spoken, text: str) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", secured, "--ca", ours / "ca.pem")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{text}\n", "")


def test_the_systems_ca_certificates(
    secured: str, ours: Path, run_command: Any, spoken: Spoken, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = run_command("transcribe", spoken[0][0], "--url", secured, "--tls")
    assert_one_line(refused, secured, "certificate is not trusted", "--ca")
    # OpenSSL's environment variable adds our CA to the system's CA certificates.
    monkeypatch.setenv("SSL_CERT_FILE", str(ours / "ca.pem"))
    done = run_command("transcribe", spoken[0][0], "--url", secured, "--tls")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{text}\n", "")


def test_a_server_of_another_ca_is_refused(secured: str, others: Path, run_command: Any, spoken: Spoken) -> None:
    done = run_command("transcribe", spoken[0][0], "--url", secured, "--ca", others / "ca.pem")
    assert_one_line(done, secured, "certificate is not trusted", "--ca")


def test_an_ip_address_in_the_certificate(secured: str, ours: Path, run_command: Any, spoken: Spoken) -> None:
    url = f"127.0.0.1:{secured.rpartition(':')[2]}"
    assert run_command("transcribe", spoken[0][0], "--url", url, "--ca", ours / "ca.pem").returncode == 0


def test_an_ip_address_that_is_not_in_the_certificate(
    repository: Path, flags: list[str], ours: Path, run_command: Any, spoken: Spoken
) -> None:
    with running_server(repository, flags, grpc=f"127.0.0.2:{_free_port()}") as server:
        done = run_command("transcribe", spoken[0][0], "--url", server.grpc, "--ca", ours / "ca.pem")
    assert_one_line(done, server.grpc, "certificate is not trusted", "certificate that contains 127.0.0.2")
    assert "--ca" not in done.stderr


def test_a_client_without_tls_at_a_server_with_tls(secured: str, mutual: str, run_command: Any, spoken: Spoken) -> None:
    for url in (secured, mutual):
        assert_one_line(run_command("transcribe", spoken[0][0], "--url", url), url, "requires TLS", "--tls", "--ca")


@pytest.mark.parametrize("command", ["transcribe", "bench"])
def test_a_client_with_tls_at_a_server_without_tls(
    triton: Any, ours: Path, run_command: Any, spoken: Spoken, command: str
) -> None:
    paths = (spoken[0][0],) if command == "transcribe" else ()
    for options in (("--tls",), ("--ca", ours / "ca.pem")):
        done = run_command(command, *paths, "--url", triton.url, *options)
        assert_one_line(done, triton.url, "does not use TLS; leave out --tls", "in Python tls", "8001")


def test_mutual_tls(mutual: str, ours: Path, others: Path, run_command: Any, spoken: Spoken, text: str) -> None:
    command = ("transcribe", spoken[0][0], "--url", mutual, "--ca", ours / "ca.pem")
    done = run_command(*command, *shown(ours))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{text}\n", "")
    assert_one_line(run_command(*command), mutual, "--certificate and --key")
    assert_one_line(run_command(*command, *shown(others)), mutual, "refuses the client's certificate")
    assert_one_line(run_command(*command, *shown(ours, "server")), mutual, "refuses the client's certificate")


@pytest.mark.parametrize("processes", [1, 2])
def test_bench_with_mutual_tls(mutual: str, ours: Path, run_command: Any, spoken: Spoken, processes: int) -> None:
    secure = ("--ca", ours / "ca.pem", *shown(ours))
    done = run_command("bench", "--url", mutual, *secure, "--processes", processes, "--json", "-")
    figures = json.loads(done.stdout)
    assert done.returncode == 0
    assert (figures["utterances"], figures["failures"], figures["tls"]) == (len(spoken), [], True)


async def test_the_library_with_tls(
    mutual: str, secured: str, ours: Path, others: Path, triton: Any, spoken: Spoken
) -> None:
    samples = load_audio(spoken[0][0])
    tls = Tls(ours / "ca.pem", str(ours / "client.pem"), str(ours / "client.key"))
    assert list_recognizers(mutual, tls) == [triton.model]
    with Recognizer(triton.model, mutual, tls=tls) as recognizer:
        expected = recognizer.transcribe(samples).text
    async with AsyncRecognizer(triton.model, [mutual, secured], tls=tls) as concurrent:
        answers = [await concurrent.transcribe(samples) for _ in range(4)]
    assert {answer.text for answer in answers} == {expected}
    assert {answer.endpoint for answer in answers} == {mutual, secured}
    with pytest.raises(ServerUnavailableError, match="certificate is not trusted"):
        Recognizer(triton.model, secured, tls=Tls(others / "ca.pem"))


async def test_each_ip_address_needs_a_certificate_of_the_host_name(
    repository: Path, mutual_flags: list[str], ours: Path, spoken: Spoken, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def answer(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
        if host not in ("triton", "other"):
            return resolve(host, port, *arguments, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (2, 3)]

    monkeypatch.setattr("socket.getaddrinfo", answer)
    tls = Tls(ours / "ca.pem", ours / "client.pem", ours / "client.key")
    with ExitStack() as stack:
        server = stack.enter_context(running_server(repository, mutual_flags, grpc=f"127.0.0.2:{_free_port()}"))
        port = server.grpc.rpartition(":")[2]
        stack.enter_context(running_server(repository, mutual_flags, grpc=f"127.0.0.3:{port}"))
        async with AsyncRecognizer("coffee_ctc", f"triton:{port}", tls=tls) as recognizer:
            answers = [await recognizer.transcribe(load_audio(path)) for path, _ in spoken[:6]]
        with pytest.raises(ServerUnavailableError, match=r"not valid for 'other'"):
            async with AsyncRecognizer("coffee_ctc", f"other:{port}", tls=tls):
                pass
    assert {answer.endpoint for answer in answers} == {f"127.0.0.2:{port}", f"127.0.0.3:{port}"}


async def test_certificate_files_are_read_once(
    repository: Path, flags: list[str], ours: Path, spoken: Spoken, tmp_path: Path
) -> None:
    """A server that joins after the files were deleted still gets requests."""
    authority = tmp_path / "ca.pem"
    authority.write_bytes((ours / "ca.pem").read_bytes())
    late = f"127.0.0.1:{_free_port()}"
    samples = load_audio(spoken[0][0])
    with running_server(repository, flags) as early:
        async with AsyncRecognizer("coffee_ctc", f"{early.grpc},{late}", tls=Tls(str(authority))) as recognizer:
            authority.unlink()
            with running_server(repository, flags, grpc=late):

                async def answers_late() -> bool:
                    return (await recognizer.transcribe(samples)).endpoint == late

                await wait_until_async(answers_late)


@pytest.mark.parametrize("connect", [list_recognizers, Recognizer, AsyncRecognizer])
def test_other_values_of_tls_are_refused(connect: Any) -> None:
    for given in (True, False, "ca.pem"):
        with pytest.raises(TypeError, match=rf"tls is {given}; give a nemo_triton\.Tls: Tls\(\)"):
            connect(url="localhost:1", tls=given)


def test_a_missing_file_given_as_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match=r"none\.pem: cannot be read"):
        Tls(ca=f"{tmp_path}/none.pem")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def test_requests_survive_a_killed_server_with_tls(
    repository: Path, flags: list[str], ours: Path, spoken: Spoken, start_command: Any
) -> None:
    paths = [path for path, _ in spoken] * 10
    with running_server(repository, flags) as victim, running_server(repository, flags) as survivor:
        url = f"{victim.grpc},{survivor.grpc}"
        process = start_command("transcribe", *paths, "--url", url, "--ca", ours / "ca.pem")
        lines = [process.stdout.readline() for _ in range(30)]
        victim.process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        stderr = process.stderr.read()
        assert process.wait(timeout=60) == 0
    assert len(lines) == len(paths)
    assert stderr.startswith(f"warning: {victim.grpc}: not used until it recovers") and stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("--ca", "none.pem"), "none.pem: cannot be read (No such file or directory)"),
        (("--ca", "."), "cannot be read (Is a directory)"),
        (("--ca", "client.key"), "client.key: contains no PEM certificate"),
        (("--certificate", "client.pem"), "client.pem: has no key; give it with --key"),
        (("--key", "client.key"), "client.key: has no certificate; give it with --certificate"),
        (("--certificate", "client.key", "--key", "client.key"), "client.key: contains no PEM certificate"),
        (("--certificate", "client.pem", "--key", "client.pem"), "client.pem: contains no PEM private key"),
        (("--certificate", "client.pem", "--key", "server.key"), "server.key: is not the key of"),
        (("--certificate", "client.pem", "--key", "encrypted.key"), "encrypted.key: is encrypted"),
    ],
)
def test_unusable_files_are_one_line(
    ours: Path, triton: Any, run_command: Any, spoken: Spoken, tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    for file in FILES:
        shutil.copy(ours / file, tmp_path)
    encrypt = ["openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", str(tmp_path / "client.key")]
    subprocess.run([*encrypt, "-out", str(tmp_path / "encrypted.key")], check=True)
    given = [name if name.startswith("--") else tmp_path / name for name in names]
    assert_one_line(run_command("transcribe", spoken[0][0], "--url", triton.url, *given), says)


def test_an_unreadable_file_is_named(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Simulated, because root can read every file.
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(TlsError, match=r"ca\.pem: cannot be read \(Permission denied\); check the path and its perm"):
        Tls(ours / "ca.pem")


LONG = "speech-nemo-triton-headless.production-speech-recognition.svc.cluster.local"
"""Longer than the subject of a certificate can be."""


def test_the_script_makes_certificates(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    done = make_certificates(folder, LONG, "*.triton.svc", "10.0.0.7", "fd00::7")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        name: "0o600" if name.endswith(".key") else "0o644" for name in FILES
    }
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        verify = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "ca.pem"), "-purpose", purpose]
        assert subprocess.run([*verify, str(folder / f"{name}.pem")], capture_output=True).returncode == 0
    listed = subprocess.run(
        ["openssl", "x509", "-in", str(folder / "server.pem"), "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
    ).stdout
    for name in (f"DNS:{LONG}", "DNS:*.triton.svc", "IP Address:10.0.0.7", "IP Address:FD00:0:0:0:0:0:0:7"):
        assert name in listed


def test_the_script_overwrites_nothing(ours: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in ours.iterdir()}
    done = make_certificates(ours)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ca.pem: already exists" in done.stderr and done.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in ours.iterdir()} == before
    for arguments in ((), ("--help",), (str(tmp_path / "x"), "a b"), (str(tmp_path / "x"), "")):
        refused = subprocess.run(["sh", str(SCRIPT), *arguments], capture_output=True, text=True)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()
