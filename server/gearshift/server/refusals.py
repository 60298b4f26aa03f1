"""Calls without a right key: counted, and logged without flooding the log.

Rules: no key, nor any part of one, is kept or logged. A right key is never held up by wrong ones from the same place (many
callers share an address), and keys of 256 random bits cannot be tried through; so nobody is locked out, and those who try
are seen: each peer at once, and then in sum once a minute. The table of peers is bounded; the one unseen longest goes.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict

from gearshift.core.errors import AccessError

_MOST_PEERS = 1024
_SILENCE_S = 60.0

_log = logging.getLogger(__name__)


class Refusals:
    """What was refused since the start, by cause: `missing`, `unknown`, `revoked`, `expired`."""

    def __init__(self) -> None:
        self.by_cause: Counter[str] = Counter()
        self._peers: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """By peer: until when nothing is logged, and how many were refused since."""

    def note(self, peer: str, error: AccessError, now: float | None = None) -> None:
        """Count a call that was refused.

        Args:
            peer: where it came from, as gRPC writes it, such as `ipv4:10.0.0.7:51234`.
            now: seconds, monotonic; None asks the clock.
        """
        self.by_cause[error.cause] += 1
        now = time.monotonic() if now is None else now
        host = host_of(peer)
        until, silenced = self._peers.pop(host, (0.0, 0))
        if now < until:
            self._peers[host] = (until, silenced + 1)
            return
        self._peers[host] = (now + _SILENCE_S, 0)
        if len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)
        more = f", and {silenced} more in the last minute" if silenced else ""
        _log.warning("a call from %s was refused: its key is %s%s", host, error.cause, more)


def host_of(peer: str) -> str:
    """Give the address without the port, which is another one for each connection."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer or "an unknown place"
