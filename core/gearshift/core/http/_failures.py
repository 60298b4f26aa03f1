"""What goes wrong on the way to a provider, in our words.

Rules: pure. Foreign errors become ours here, by one table.
"""

from __future__ import annotations

import socket
import ssl

from gearshift.core.failures import ProviderFailure
from gearshift.core.words import FailureKind

# What an error of connecting means; the first that fits counts.
_DIALING: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.CertificateError, "the server's certificate is not trusted"),
    (ssl.SSLError, "the TLS handshake failed"),
    (socket.gaierror, "the server's name could not be resolved"),
    (UnicodeError, "the server's name could not be resolved"),
    (OSError, "the server could not be reached"),
)

DIALING_ERRORS = (OSError, UnicodeError)
"""What connecting raises: TLS and names too are errors of the system; a name that is too long is one of encoding."""


def dialing_failure(error: BaseException) -> ProviderFailure:
    """Give ours for what connecting raised; nothing was sent."""
    detail = next(detail for kind, detail in _DIALING if isinstance(error, kind))
    return ProviderFailure(FailureKind.CONNECTION, detail, sent=False)


def connect_timeout(seconds: float) -> ProviderFailure:
    """Give the failure of a call that got no connection in time."""
    return ProviderFailure(FailureKind.CONNECT_TIMEOUT, f"no connection within {seconds:g} s", sent=False)


def client_closed(*, sent: bool) -> ProviderFailure:
    """Give the failure of a call on a client that was closed."""
    return ProviderFailure(FailureKind.CONNECTION, "the HTTP client is closed", sent=sent)


def cut_off(*, has_head: bool) -> ProviderFailure:
    """Give the failure of a response whose connection ended too early."""
    where = "in the middle of the response" if has_head else "before the response"
    return ProviderFailure(FailureKind.CONNECTION, f"the connection was closed {where}")


def not_http() -> ProviderFailure:
    """Give the failure of a response that cannot be parsed."""
    return ProviderFailure(FailureKind.MALFORMED, "the response is not HTTP")


def head_too_long(limit: int) -> ProviderFailure:
    """Give the failure of a response with more head, or more framing without content, than is read."""
    return ProviderFailure(FailureKind.MALFORMED, f"the response's head is longer than {limit} bytes")


def wrong_compression() -> ProviderFailure:
    """Give the failure of a body that is not compressed as its head says."""
    return ProviderFailure(FailureKind.MALFORMED, "the response's compression is wrong")


def too_long(limit: int) -> ProviderFailure:
    """Give the failure of a body that is longer than its reader takes."""
    return ProviderFailure(FailureKind.MALFORMED, f"the answer is longer than {limit} bytes")
