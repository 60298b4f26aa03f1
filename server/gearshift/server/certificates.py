"""The server's certificate, replaced in place.

Rules: files are read and checked before they are put in force; what is wrong changes nothing, since a certificate and its key
are two files that cannot be replaced at once. New connections get the new certificate, running ones keep theirs. The
handshakes' threads only ever take what stands ready; no file is read there.
"""

from __future__ import annotations

import base64
import logging
import re
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import grpc

from gearshift.core.config.model import TlsConfig
from gearshift.core.errors import ConfigError

SOON_S = 14 * 86_400.0
"""Operators are told from so long before the certificate runs out."""
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _EXPLICIT_0, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18

_log = logging.getLogger(__name__)


class Certificates:
    """Certificate, key and client authorities of the gRPC port, and of the HTTP port where it speaks TLS.

    Raises:
        ConfigError: a file cannot be read, or is none of its kind.
    """

    def __init__(self, tls: TlsConfig) -> None:
        self._tls = tls
        self.problem = ""
        """Why the files could not be put in force the last time; empty when they could."""
        self.replaced = 0
        """How often they were since the start."""
        self.expires_at = 0.0
        """When the certificate, or one of its chain, runs out, seconds since the epoch."""
        self._held: tuple[bytes, bytes, bytes | None] = (b"", b"", None)
        self._checked: ssl.SSLContext
        self._current = self._read()

    @property
    def files(self) -> tuple[str, ...]:
        """What is to be followed."""
        return tuple(path for path in (self._tls.certificate, self._tls.key, self._tls.client_ca) if path)

    def credentials(self) -> grpc.ServerCredentials:
        """Give what the server listens with; it asks at each handshake whether something else is in force."""
        # That None says no is documented, and missing in the types.
        fetcher = cast("Callable[[], grpc.ServerCertificateConfiguration]", self.changes())
        return grpc.dynamic_ssl_server_credentials(
            self._current, fetcher, require_client_authentication=bool(self._tls.client_ca)
        )

    def changes(self) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
        """Give what tells of each replacement from now on, once; None where there was none.

        Told at each handshake, gRPC (1.85) makes what handshakes have in common anew each time, without a lock, and two that
        meet end the process.
        """
        given = self._current

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            if given is self._current:
                return None
            given = self._current
            return given

        return changed

    def http_context(self) -> ssl.SSLContext:
        """Give what the HTTP port listens with; at each handshake it takes what is in force."""
        given = self._checked

        def take_current(handshake: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _given: ssl.SSLContext) -> None:
            handshake.context = self._checked

        given.sni_callback = take_current  # called whether or not the client names the host
        return given

    def reread(self) -> bool:
        """Put the files in force as they are now; tell whether they have changed.

        Raises:
            ConfigError: they cannot be; those of before stay in force.
        """
        held = self._held
        try:
            current = self._read()
        except ConfigError as error:
            self.problem = error.message
            raise
        self.problem = ""
        if self._held == held:
            return False
        self._current = current
        self.replaced += 1
        return True

    def follow(self) -> None:
        """Put the files in force, since one has changed; wrong ones are told and change nothing."""
        try:
            if self.reread():
                _log.info("the certificate was replaced; it runs out at %s", _day(self.expires_at))
        except ConfigError as error:
            _log.error("the certificate of before stays in force: %s", error)

    def warnings(self) -> list[str]:
        """Say what an operator should know."""
        told = [f"the certificate of before stays in force: {self.problem}"] if self.problem else []
        left = self.expires_at - time.time()
        if left <= 0:
            told.append(f"the TLS certificate ran out at {_day(self.expires_at)}: clients refuse it")
        elif left < SOON_S:
            told.append(f"the TLS certificate runs out in {left / 86_400:.1f} days, at {_day(self.expires_at)}")
        return told

    def _read(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        try:
            key, certificate = Path(tls.key).read_bytes(), Path(tls.certificate).read_bytes()
            authority = Path(tls.client_ca).read_bytes() if tls.client_ca else None
            # gRPC would only say that it cannot listen.
            check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            check.load_cert_chain(tls.certificate, tls.key, password="")
            check.set_alpn_protocols(["http/1.1"])
            if tls.client_ca:
                check.load_verify_locations(tls.client_ca)
                check.verify_mode = ssl.CERT_REQUIRED
            expires_at = expiry_of_pem(certificate)
        except (ssl.SSLError, ValueError) as error:
            told = "certificate, key and client_ca must be PEM files, and the key the certificate's and not encrypted"
            raise ConfigError([f"server.tls: {told}"]) from error
        except OSError as error:
            raise ConfigError([f"server.tls: {error.filename}: {error.strerror}"]) from error
        self._held, self.expires_at, self._checked = (key, certificate, authority), expires_at, check
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority)


def expiry_of_pem(pem: bytes) -> float:
    """Give when the first certificate of a chain to run out does so, seconds since the epoch.

    Raises:
        ValueError: there is no certificate in it.
    """
    found = [_expiry_of_der(base64.b64decode(body)) for body in _CERTIFICATE.findall(pem)]
    if not found:
        raise ValueError("no certificate")
    return min(found)


def _expiry_of_der(der: bytes) -> float:
    """Read `notAfter`.

    RFC 5280, 4.1: Certificate { tbsCertificate { [0] version, serial, algorithm, issuer, validity { notBefore, notAfter } …
    """
    certificate, _ = _value(der, 0, _SEQUENCE)
    to_be_signed, _ = _value(certificate, 0, _SEQUENCE)
    at = _value(to_be_signed, 0)[1] if to_be_signed[0] == _EXPLICIT_0 else 0
    for _ in ("serial", "algorithm", "issuer"):
        _, at = _value(to_be_signed, at)
    validity, _ = _value(to_be_signed, at, _SEQUENCE)
    _, at = _value(validity, 0)
    kind = validity[at]
    text = _value(validity, at)[0].decode("ascii")
    if kind == _UTC_TIME:
        # Two digits of the year, 50 to 49 (RFC 5280, 4.1.2.5.1).
        text = ("19" if text[:2] >= "50" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError("no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _value(data: bytes, at: int, wanted: int | None = None) -> tuple[bytes, int]:
    """Give a DER element's content, and where the next one begins."""
    if at + 2 > len(data) or (wanted is not None and data[at] != wanted):
        raise ValueError("not a certificate")
    length, at = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, at = int.from_bytes(data[at : at + size], "big"), at + size
    if at + length > len(data):
        raise ValueError("not a certificate")
    return data[at : at + length], at + length


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
