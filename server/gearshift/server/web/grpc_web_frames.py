"""gRPC-Web on the wire.

The protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md

Rules: pure. A frame is a flag, four bytes of length and what it holds; the last one of an answer holds the trailers. In text
mode all of it is base64, in pieces that may each have padding of their own.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from urllib.parse import quote

_HEAD = 5
_COMPRESSED = 0x01
_TRAILERS = 0x80
_PIECE = re.compile(rb"[^=]+={0,2}")
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What a status message leaves as it is."""
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class FrameError(Exception):
    """Raised when a body is not one whole frame with one message."""


class TooLongError(Exception):
    """Raised when a message is longer than is taken."""


class CompressedError(Exception):
    """Raised when a message is compressed, which this service does not read."""


def longest_body(most: int, *, text: bool) -> int:
    """Give how many bytes a body with a message of `most` bytes may have."""
    return (most + _HEAD) * 4 // 3 + 64 if text else most + _HEAD


def message_of(body: bytes | bytearray, most: int, *, text: bool) -> bytes:
    """Give the one message that a call's body holds.

    Raises:
        FrameError: it is not one whole frame, or not base64.
        TooLongError: the message is longer than `most` bytes.
        CompressedError: it is compressed.
    """
    whole = _decoded(bytes(body)) if text else body
    if len(whole) < _HEAD:
        raise FrameError(f"a frame has at least {_HEAD} bytes, and this body {len(whole)}")
    flag, length = whole[0], int.from_bytes(whole[1:_HEAD], "big")
    if flag == _COMPRESSED:
        raise CompressedError
    if flag:
        raise FrameError(f"the first frame must be a message, and its flag is {flag:#04x}")
    if length > most:
        raise TooLongError
    if len(whole) != _HEAD + length:
        raise FrameError(f"the frame says {length} bytes, and {len(whole) - _HEAD} follow")
    return bytes(whole[_HEAD:])


def framed(message: bytes) -> bytes:
    """Give a message's frame."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def trailer(code: int, text: str, metadata: Iterable[tuple[str, str | bytes]]) -> bytes:
    """Give the last frame, which holds how the call ended."""
    lines = [f"grpc-status:{code}\r\n"]
    if text:
        lines.append(f"grpc-message:{quote(text, safe=_PLAIN)}\r\n")
    for name, value in metadata:
        told = base64.b64encode(value).rstrip(b"=").decode() if isinstance(value, bytes) else value
        lines.append(f"{name}:{told}\r\n")
    held = "".join(lines).encode()
    return bytes((_TRAILERS,)) + len(held).to_bytes(4, "big") + held


def seconds_of(timeout: str) -> float:
    """Give the seconds of a `grpc-timeout`, such as `250m`.

    Raises:
        ValueError: it is none.
    """
    found = _TIMEOUT.fullmatch(timeout)
    if found is None:
        raise ValueError(timeout)
    return int(found[1]) * _UNIT_S[found[2]]


def bytes_of(value: str) -> bytes:
    """Give what a header whose name ends in `-bin` holds.

    Raises:
        ValueError: it is not base64.
    """
    return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)


def _decoded(body: bytes) -> bytes:
    try:
        if b"=" not in body.rstrip(b"="):
            return base64.b64decode(body, validate=True)
        return b"".join(base64.b64decode(piece, validate=True) for piece in _PIECE.findall(body))
    except binascii.Error as error:
        raise FrameError("the body of grpc-web-text must be base64") from error
