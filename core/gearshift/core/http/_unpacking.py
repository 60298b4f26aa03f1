"""Bodies that were sent compressed, unpacked piece by piece.

Rules: pure. What is given at once is bounded, however well it was packed: whoever counts what he has read stops in time.
"""

from __future__ import annotations

import zlib

from gearshift.core.http._failures import wrong_compression

PIECE_BYTES = 256 * 1024
"""Most that is unpacked at once, bytes."""

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_ZLIB_METHOD = 8
_ENCODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})


class Unpacker:
    """One body.

    Args:
        encoding: the head's `content-encoding`, lower-case. One that was not asked for fails when it is read, so that the
            status of such a response still counts.
    """

    def __init__(self, encoding: bytes) -> None:
        self._is_known = encoding in _ENCODINGS
        self._has_members = encoding != b"deflate"
        self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._began = False
        self._packed = b""

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._packed = self._packed + data if self._packed else data

    def unpack(self) -> bytes:
        """Give the next piece; b"" where more must come first.

        Raises:
            ProviderFailure: MALFORMED.
        """
        if not self._is_known:
            raise wrong_compression()
        try:
            while self._packed or self._began:
                piece = self._next()
                if piece or not self._packed:
                    return piece
        except zlib.error as error:
            raise wrong_compression() from error
        return b""

    def end(self) -> None:
        """Check that the body has ended where its compression does; one that is empty was not compressed.

        Raises:
            ProviderFailure: MALFORMED.
        """
        if self._packed or (self._began and not self._inflate.eof):
            raise wrong_compression()

    def _next(self) -> bytes:
        if not self._began:
            self._began = True
            # Some servers mean deflate without its frame: https://www.rfc-editor.org/rfc/rfc9110.html#section-8.4.1.2.
            if not self._has_members and self._packed[0] & 15 != _ZLIB_METHOD:
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        elif self._inflate.eof:
            if not self._packed:
                return b""
            if not self._has_members:
                raise wrong_compression()
            self._inflate = zlib.decompressobj(_GZIP_OR_ZLIB)  # gzip's members follow each other
        piece = self._inflate.decompress(self._packed, PIECE_BYTES)
        self._packed = self._inflate.unused_data or self._inflate.unconsumed_tail
        return piece
