"""What goes over the bus.

Rules: frames of MessagePack between processes of one installation, so there are no versions. `what` names the subject of
a question or a notice, `body` is what its two ends agreed on. Workers are known by their numbers, from 0; the supervisor
is `SUPERVISOR`.
"""

from __future__ import annotations

from msgspec import Struct

SUPERVISOR = -1


class Start(Struct, tag="start"):
    """To a worker, first of all: who it is and what it serves.

    Args:
        config: a `Config` in MessagePack; its ports are the numbers to share, never 0.
        embedded: sockets of embedded models by provider name.
        books: what its predecessor's limits had left, a `ShareBooks` in MessagePack; empty for the first.

    """

    number: int
    size: int
    alive: int
    config: bytes
    embedded: dict[str, str]
    books: bytes


class Ready(Struct, tag="ready"):
    """From a worker: it takes calls."""

    revision: str


class Failed(Struct, tag="failed"):
    """From a worker: why it cannot start."""

    problems: list[str]


class Team(Struct, tag="team"):
    """To a worker: who takes calls now."""

    serving: list[int]


class Ask(Struct, tag="ask"):
    """From a worker: a question to all others, or to the supervisor."""

    id: int
    what: str
    body: bytes


class Asked(Struct, tag="asked"):
    """To a worker: a question."""

    id: int
    what: str
    body: bytes


class Reply(Struct, tag="reply"):
    """From a worker: what it answers; `error` is why it cannot."""

    id: int
    body: bytes = b""
    error: str = ""


class Part(Struct):
    """One process's answer."""

    worker: int
    body: bytes = b""
    error: str = ""


class Answers(Struct, tag="answers"):
    """To a worker: what the others answered, and who did not in time."""

    id: int
    parts: list[Part]
    missing: list[int]


class Tell(Struct, tag="tell"):
    """From a worker: a notice to some others, or to all where `to` is empty; nobody confirms it."""

    what: str
    body: bytes
    to: list[int] = []


class Told(Struct, tag="told"):
    """To a worker: a notice."""

    sender: int
    what: str
    body: bytes


ToWorker = Start | Team | Asked | Answers | Told
ToSupervisor = Ready | Failed | Ask | Reply | Tell
