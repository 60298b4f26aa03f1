"""A URL, parsed once, and the heads of the requests that go there.

Rules: pure. A head is built once for all that it says but the length of the body.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from gearshift.core.failures import ProviderFailure
from gearshift.core.words import FailureKind

_HEADS = 64
"""Most heads that are kept for a URL."""

_UNIX = re.compile(r"unix://(?P<socket>/.+?\.sock)(?P<path>/.*)?")
_PORTS = {"http": 80, "https": 443}
_PATH = "/%:@!$&'()*+,;=~?"
"""What stands in path and query as it is, beside letters, digits and `-._~`."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where connections lead: those of one address serve every call to it."""

    host: str
    port: int
    is_tls: bool
    socket: str = ""
    """Path of a Unix socket; host and port mean nothing then."""


class Target:
    """A URL.

    Args:
        url: `http`, `https`, or `unix:///dir/name.sock/path`, whose socket ends with the first name in `.sock`.

    Raises:
        ProviderFailure: INVALID_REQUEST, when it is none of these.
    """

    __slots__ = ("_heads", "_host", "_path", "address")

    def __init__(self, url: str) -> None:
        socket = ""
        if match := _UNIX.fullmatch(url):
            socket = match["socket"]
            url = f"http://localhost{match['path'] or '/'}"
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
            if not host.isascii():
                host = host.encode("idna").decode()
        except ValueError as error:
            raise _wrong_url() from error
        if parts.scheme not in _PORTS or not host:
            raise _wrong_url()
        usual = _PORTS[parts.scheme]
        said = f"[{host}]" if ":" in host else host
        self._host = said if port in (None, usual) else f"{said}:{port}"
        self._path = quote(f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/", safe=_PATH)
        self._heads: dict[tuple[object, ...], bytes] = {}
        self.address = Address(host, usual if port is None else port, parts.scheme == "https", socket)

    def head(self, method: str, headers: Mapping[str, str], *, has_body: bool, stream: bool) -> bytes:
        """Give a request's head up to the length of its body, which `content-length: ` awaits.

        Raises:
            ProviderFailure: INVALID_REQUEST, when a configured header would break out of its line.
        """
        said = (method, stream, has_body, *headers.items())  # accounts send the same headers with every call
        head = self._heads.get(said)
        if head is None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            head = self._heads[said] = self._built(method, headers, has_body=has_body, stream=stream)
        return head

    def _built(self, method: str, headers: Mapping[str, str], *, has_body: bool, stream: bool) -> bytes:
        lines = [
            f"{method} {self._path} HTTP/1.1",
            f"host: {self._host}",
            "user-agent: gearshift",
            # A compressed stream would come in blocks instead of tokens.
            "accept-encoding: identity" if stream else "accept-encoding: gzip, deflate",
        ]
        lines.extend([f"{name}: {value}" for name, value in headers.items()])
        if has_body and "content-type" not in headers:
            lines.append("content-type: application/json")
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ProviderFailure(FailureKind.INVALID_REQUEST, "a configured header holds a line break", sent=False)
        try:
            return (text + "\r\ncontent-length: ").encode("latin-1")
        except UnicodeEncodeError as error:
            raise ProviderFailure(
                FailureKind.INVALID_REQUEST, "a configured header holds a character that it must not", sent=False
            ) from error


def _wrong_url() -> ProviderFailure:
    return ProviderFailure(
        FailureKind.INVALID_REQUEST, "the configured base URL is neither http(s) nor unix:///….sock", sent=False
    )
