"""TLS between client and server: files that are checked before they are used, and why a handshake fails."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from nemo_triton.errors import TlsError, one_line

_HANDSHAKE_SECONDS = 3.0
_SPEAKS_TLS = (
    "the server speaks TLS; give --tls, or --ca with the CA that signed its certificate (in Python Tls() or "
    "Tls(ca=FILE))"
)
_SPEAKS_NO_TLS = (
    "the server speaks no TLS; leave out --tls, --ca, --certificate and --key (in Python tls), or give the port of its "
    "gRPC endpoint (8001 unless told otherwise) if this is another"
)
_WRONG_NAME_CODES = (62, 64)
"""OpenSSL's codes for a certificate without the host name, or the address, of the URL."""
_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep their roots, for a Python that was built to look elsewhere."""


@dataclass(frozen=True)
class Tls:
    """How to connect with TLS. All files are PEM.

    Attributes:
        ca: CA certificates, one of which must have signed the server's certificate; None takes the system's.
        certificate: The client's certificate (mTLS), for servers that ask for one.
        key: Of `certificate`, not encrypted; both or none.

    Raises:
        TlsError: A file can't be used, or certificate and key don't belong together.

    Example:
        >>> Recognizer(url="triton.example.com:8001", tls=Tls(ca="ca.pem"))
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None

    def __post_init__(self) -> None:
        for path in (self.ca, self.certificate, self.key):
            if path:
                _read(path)
        if self.ca:
            _check_certificates(self.ca)
        if self.certificate and self.key:
            _check_certificates(self.certificate)
            _load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), self.certificate, self.key)
        elif self.certificate:
            raise TlsError(f"{self.certificate}: is given without its key; name it by --key (in Python key)")
        elif self.key:
            raise TlsError(
                f"{self.key}: is given without its certificate; name it by --certificate (in Python certificate)"
            )

    def credentials(self) -> Any:
        """For a gRPC channel."""
        ca = self.ca or _system_roots()
        return grpc.ssl_channel_credentials(
            root_certificates=_read(ca) if ca else None,
            private_key=_read(self.key) if self.key else None,
            certificate_chain=_read(self.certificate) if self.certificate else None,
        )

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca = self.ca or _system_roots()
        if ca:
            context.load_verify_locations(ca)
        if self.certificate and self.key:
            _load_pair(context, self.certificate, self.key)
        return context


def diagnosis(host: str, port: int, name: str, tls: Tls | None) -> str | None:
    """What about TLS keeps a client from the server at host:port, and what to do; None if it is something else.

    Args:
        host: Of the server.
        port: Of its gRPC endpoint.
        name: The one that the server's certificate must have.
        tls: How the client connects.
    """
    context = tls._context() if tls else _trusting()
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), _HANDSHAKE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            if tls is None:
                return _SPEAKS_TLS
            return None if _is_kept(secured) else _refusal(tls)
    except ssl.SSLCertVerificationError as error:
        return _refused(error, name)
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _refusal(tls) if tls else _SPEAKS_TLS
        return _SPEAKS_NO_TLS if tls else None
    except OSError:
        return None


def _is_kept(connection: ssl.SSLSocket) -> bool:
    """Whether the server goes on after the handshake; only then does TLS 1.3 judge the client's certificate."""
    try:
        # A gRPC server speaks first.
        return bool(connection.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False


def _refused(error: ssl.SSLCertVerificationError, name: str) -> str:
    advice = "give the CA that signed it by --ca (in Python Tls(ca=FILE))"
    if error.verify_code in _WRONG_NAME_CODES:
        advice = f"ask by a name in the certificate, or give the server a certificate that has {name}"
    return f"the server's certificate is refused ({one_line(error.verify_message).rstrip('.')}); {advice}"


def _refusal(tls: Tls) -> str:
    if tls.certificate:
        return "the server refuses the client's certificate; give one by --certificate and --key that its CA signed"
    return (
        "the server ends TLS's handshake; where it asks for a client's certificate, give --certificate and --key "
        "(in Python Tls(certificate=FILE, key=FILE))"
    )


def _trusting() -> ssl.SSLContext:
    """For finding out whether a server speaks TLS at all; nothing is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def _check_certificates(path: Path | str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise TlsError(f"{path}: holds no certificate in PEM form; give another file") from error


def _load_pair(context: ssl.SSLContext, certificate: Path | str, key: Path | str) -> None:
    def refuse() -> str:
        raise TlsError(f"{key}: is encrypted, which gRPC can't read; decrypt it: openssl pkey -in {key}")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"{key}: is not the key of {certificate}; give the two that belong together") from error
        raise TlsError(f"{key}: holds no private key in PEM form; give the key of {certificate}") from error


def _system_roots() -> Path | None:
    """The system's authorities in one file; None where there is none, and gRPC takes its own."""
    # gRPC would take its own in any case.
    files = filter(None, (ssl.get_default_verify_paths().cafile, *_ROOTS))
    return next((Path(file) for file in files if Path(file).is_file()), None)
