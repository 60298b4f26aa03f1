"""A request's connection, as far as aiohttp does not say it: who is there, and how much may be under way to them."""

from __future__ import annotations

import socket
from typing import Final

from aiohttp import web

_UNSENT: Final = 32_768
"""Bytes that the kernel takes for somebody who does not read."""


def peer_of(request: web.Request) -> str:
    """Tell where a call comes from, as gRPC writes it."""
    name = None if request.transport is None else request.transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix:"
    return f"ipv6:[{name[0]}]:{name[1]}" if ":" in name[0] else f"ipv4:{name[0]}:{name[1]}"


def keep_little_unsent(request: web.Request) -> None:
    """Have a stream stop early for somebody who does not read; else the kernel takes megabytes for them."""
    transport = request.transport
    held: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if held is not None and held.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)


def key_of(request: web.Request) -> tuple[tuple[str, str], ...]:
    """Give the header that holds a caller's key, as the metadata that keys are read from."""
    value = request.headers.get("Authorization")
    if value is None:
        return ()
    # What is no ASCII is no key of ours, and could not be hashed either.
    return (("authorization", value if value.isascii() else "bearer ?"),)
