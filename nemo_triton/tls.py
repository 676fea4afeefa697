"""TLS: check certificate files before they are used, and explain failed handshakes."""

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
    "the server requires TLS; give --tls, or --ca with the CA that signed its certificate (in Python tls=Tls() or "
    "tls=Tls(ca=FILE))"
)
_SPEAKS_NO_TLS = (
    "the server does not use TLS; leave out --tls, --ca, --certificate and --key (in Python tls), or give its gRPC "
    "port (8001 by default) if this is another port"
)
_WRONG_NAME_CODES = (62, 64)
"""OpenSSL's codes for a certificate that lacks the URL's host name or IP address."""
_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep their CA certificates, for a Python that was built to look elsewhere."""


@dataclass(frozen=True)
class Tls:
    """Certificates for a connection with TLS. All files are PEM files.

    Attributes:
        ca: CA certificates that verify the server's certificate; None takes the system's CA certificates.
        certificate: The client's certificate, for servers that require one (mTLS). Requires `key`.
        key: The private key of `certificate`, not encrypted.

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
            raise TlsError(f"{self.certificate}: has no key; give it with --key (in Python key)")
        elif self.key:
            raise TlsError(f"{self.key}: has no certificate; give it with --certificate (in Python certificate)")

    def credentials(self) -> Any:
        """Return the credentials for a gRPC channel."""
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
    """Find out whether TLS prevents a connection, and return the reason and what to do; None if it does not.

    Args:
        host: Host of the server.
        port: Port of its gRPC endpoint.
        name: Host name that the server's certificate must contain.
        tls: The client's certificates; None if it connects without TLS.
    """
    context = tls._context() if tls else _trust_all()
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), _HANDSHAKE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            if tls is None:
                return _SPEAKS_TLS
            return None if _stays_open(secured) else _refusal(tls)
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error, name)
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _refusal(tls) if tls else _SPEAKS_TLS
        return _SPEAKS_NO_TLS if tls else None
    except OSError:
        return None


def _stays_open(connection: ssl.SSLSocket) -> bool:
    """Whether the server keeps the connection. With TLS 1.3 it checks the client's certificate after the handshake."""
    try:
        # A gRPC server sends the first bytes.
        return bool(connection.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False


def _untrusted(error: ssl.SSLCertVerificationError, name: str) -> str:
    advice = "give the CA that signed it with --ca (in Python Tls(ca=FILE))"
    if error.verify_code in _WRONG_NAME_CODES:
        advice = f"use a host name in the certificate, or a server certificate that contains {name}"
    return f"the server's certificate is not trusted ({one_line(error.verify_message).rstrip('.')}); {advice}"


def _refusal(tls: Tls) -> str:
    if tls.certificate:
        return "the server refuses the client's certificate; give --certificate and --key that the server's CA signed"
    return (
        "the server ends the TLS handshake; if it requires a client certificate, give --certificate and --key "
        "(in Python Tls(certificate=FILE, key=FILE))"
    )


def _trust_all() -> ssl.SSLContext:
    """Return a context that only finds out whether a server uses TLS. No data is sent over it."""
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
        raise TlsError(f"{path}: contains no PEM certificate; give another file") from error


def _load_pair(context: ssl.SSLContext, certificate: Path | str, key: Path | str) -> None:
    def refuse() -> str:
        raise TlsError(f"{key}: is encrypted, which gRPC can't read; decrypt it with: openssl pkey -in {key}")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"{key}: is not the key of {certificate}; give a matching pair") from error
        raise TlsError(f"{key}: contains no PEM private key; give the key of {certificate}") from error


def _system_roots() -> Path | None:
    """Find the system's CA certificates. gRPC would otherwise use the certificates in its package."""
    files = filter(None, (ssl.get_default_verify_paths().cafile, *_ROOTS))
    return next((Path(file) for file in files if Path(file).is_file()), None)
