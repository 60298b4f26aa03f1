"""Ports that several processes share.

Rules: the supervisor holds a placeholder, which is bound and never listens, so it gets no connection and keeps the number
while workers come and go. SO_REUSEPORT lets anybody of the same user join silently, so a port that somebody listens on is
refused before the placeholder is bound.
"""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager

from gearshift.core.errors import ConfigError


@contextmanager
def reserved(host: str, port: int, field: str, hint: str) -> Generator[int]:
    """Reserve a port while the block runs; gives its number, also for 0.

    Args:
        field: of the configuration, for the message.
        hint: what to do when it is taken.

    Raises:
        ConfigError: it is in use, or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if port:
            # Without SO_REUSEPORT this fails beside anybody who listens, other supervisors' workers too.
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
        placeholder = socket.socket(family, kind, protocol)
        try:
            placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            placeholder.bind(address)
        except OSError:
            placeholder.close()
            raise
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise ConfigError([f"{field}: cannot listen on {shown}: it is in use or not this machine's; {hint}"]) from error
    with placeholder:
        number: int = placeholder.getsockname()[1]
        yield number
