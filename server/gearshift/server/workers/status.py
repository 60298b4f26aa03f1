"""What the supervisor says of its workers, and of a reload."""

from __future__ import annotations

from msgspec import Struct


class WorkerRow(Struct):
    """One worker; `state` is "starting", "serving" or "stopped", `up_s` seconds since its process began."""

    number: int
    pid: int
    state: str
    restarts: int
    up_s: float
    resident_bytes: int
    last_error: str


class EmbeddedRow(Struct):
    """The embedded model's process."""

    state: str
    pid: int
    resident_bytes: int
    restarts: int
    last_error: str


class SupervisorStatus(Struct):
    """Everything that the supervisor runs."""

    workers: list[WorkerRow]
    embedded: list[EmbeddedRow]
    warnings: list[str]


class ReloadResult(Struct):
    """What a reload came to; `problems` are why it changed nothing."""

    changed: bool
    revision: str
    problems: list[str] = []
