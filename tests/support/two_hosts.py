"""Two hosts on one machine: network namespaces, each with a way for calls and a way to the stores.

    with two_hosts() as network:
        network.store          # the address that Redis and PostgreSQL listen on besides loopback
        network.hosts[0]       # .prefix runs a command there, .address is where it is called
        network.hosts[0].cut(); network.hosts[0].mend()     # its way to the stores only

    test process ── front bridge ──┬── host a ──┬── back bridge ── stores
                                   └── host b ──┘

A machine that does not allow namespaces skips the test. Names hold the process id of the test; what a killed run left
behind is removed by the next.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_LONGEST_S = 10.0
_OURS = re.compile(r"\bgs(\d+)[a-z]+\b")


@dataclass(frozen=True)
class Host:
    """One of the hosts."""

    namespace: str
    address: str
    way: str
    """The stores' end of its way to them."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """A command before a command, which then runs on this host, with the same process id."""
        return ("ip", "netns", "exec", self.namespace)

    def cut(self) -> None:
        """Cut it from the stores: nothing arrives, and nobody is told."""
        _ip("link", "set", self.way, "down")

    def mend(self) -> None:
        """Join it to the stores again."""
        _ip("link", "set", self.way, "up")


@dataclass(frozen=True)
class Network:
    """What a test sees."""

    store: str
    hosts: tuple[Host, Host]


@contextmanager
def two_hosts() -> Generator[Network]:
    """Make them for the block; skips where the machine does not allow it."""
    if shutil.which("ip") is None:
        pytest.skip("two hosts need network namespaces: the program ip (iproute2) is missing")
    _sweep()
    own = f"gs{os.getpid()}"
    # 198.18.0.0/15 is set aside for tests of networks (RFC 2544); no such network is reached from here.
    front, back = (f"198.18.{2 * (os.getpid() % 120) + each}" for each in (0, 1))
    try:
        try:
            _make(own, front, back)
        except (subprocess.CalledProcessError, PermissionError) as error:
            why = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
            pytest.skip(f"two hosts need network namespaces, which this machine does not allow: {why}")
        hosts = [Host(f"{own}{name}", f"{front}.{number}", f"{own}{name}s") for number, name in ((11, "a"), (12, "b"))]
        yield Network(f"{back}.1", (hosts[0], hosts[1]))
    finally:
        _remove(own)


def _make(own: str, front: str, back: str) -> None:
    for bridge, net in ((f"{own}f", front), (f"{own}k", back)):
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
    for number, name in ((11, "a"), (12, "b")):
        host = f"{own}{name}"
        _ip("netns", "add", host)
        _ip("-n", host, "link", "set", "lo", "up")
        # The ends out here are named after what is reached over them: calls and stores.
        for bridge, net, end, inside in (
            (f"{own}f", front, f"{host}c", "calls"),
            (f"{own}k", back, f"{host}s", "stores"),
        ):
            _ip("link", "add", end, "type", "veth", "peer", "name", inside, "netns", host)
            _ip("link", "set", end, "master", bridge, "up")
            _ip("-n", host, "addr", "add", f"{net}.{number}/24", "dev", inside)
            _ip("-n", host, "link", "set", inside, "up")


def _remove(own: str) -> None:
    for name in ("a", "b"):
        _ip("netns", "del", f"{own}{name}", check=False)
        for end in ("c", "s"):
            _ip("link", "del", f"{own}{name}{end}", check=False)
    for bridge in ("f", "k"):
        _ip("link", "del", f"{own}{bridge}", check=False)


def _sweep() -> None:
    """Remove what runs left behind that no longer live."""
    listed = _ip("netns", "list", check=False) + _ip("-o", "link", check=False)
    for pid in {found[1] for found in _OURS.finditer(listed)}:
        if not Path("/proc", pid).exists():
            _remove(f"gs{pid}")


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True, timeout=_LONGEST_S)
    return done.stdout
