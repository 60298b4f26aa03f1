"""A worker's end of the bus.

Rules: a handler that fails answers with its error; one that is slow holds up nobody else. What is asked here is answered
within a second or reported as missing. When the supervisor goes, `ended` is set.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import anyio

from gearshift.core.embedded.supervisor import AttachedModel
from gearshift.core.shares import ShareAdmission
from gearshift.server.workers.link import Link
from gearshift.server.workers.messages import (
    Answers,
    Ask,
    Asked,
    Reply,
    Start,
    Team,
    Tell,
    Told,
    ToWorker,
)

_log = logging.getLogger(__name__)

_LATE_S: Final = 60.0
"""The supervisor always answers, a reload within this."""

Answering = Callable[[bytes], Awaitable[bytes]]
Hearing = Callable[[int, bytes], None]


class Member:
    """One of several processes: the one that this is. Its tasks share it.

    Args:
        link: to the supervisor.
        start: what it said first.
        admission: where limits are kept by shares; None where a store is shared.

    """

    def __init__(self, link: Link[ToWorker], start: Start, admission: ShareAdmission | None) -> None:
        self.number = start.number
        self.size = start.size
        self.embedded = start.embedded
        self.admission = admission
        self.serving: list[int] = []
        self.ended = anyio.Event()
        self._link = link
        self._answering: dict[str, Answering] = {}
        self._hearing: dict[str, Hearing] = {}
        self._changed: list[Callable[[], None]] = []
        self._open: dict[int, tuple[anyio.Event, list[Answers]]] = {}
        self._last = 0

    def attached_models(self) -> Mapping[str, AttachedModel]:
        """Give the embedded models that the supervisor runs, by provider name."""
        prefix = "unix://"
        return {name: AttachedModel(Path(url.removeprefix(prefix))) for name, url in self.embedded.items()}

    def answers(self, what: str, handler: Answering) -> None:
        """Have questions about a subject answered; what the handler raises is told to who asked, as text."""
        self._answering[what] = handler

    def hears(self, what: str, handler: Hearing) -> None:
        """Have notices about a subject heard, with who sent them."""
        self._hearing[what] = handler

    def when_changed(self, handler: Callable[[], None]) -> None:
        """Have it told when a worker came or went."""
        self._changed.append(handler)

    async def ask(self, what: str, body: bytes = b"") -> Answers:
        """Ask everybody else. The supervisor sees to it that this takes no longer than it should.

        Gives no answers at all when the supervisor has gone.
        """
        self._last += 1
        number, done = self._last, anyio.Event()
        given: list[Answers] = []
        self._open[number] = (done, given)
        try:
            self._link.send(Ask(number, what, body))
            with anyio.move_on_after(_LATE_S):
                await done.wait()
        finally:
            del self._open[number]
        return given[0] if given else Answers(number, [], [])

    def tell(self, what: str, body: bytes = b"", to: list[int] | None = None) -> None:
        """Tell some workers, or all others; missed by who is too slow."""
        if not self._link.is_crowded:
            self._link.send(Tell(what, body, to or []))

    async def run(self) -> None:
        """Read the bus until the supervisor goes."""
        try:
            async with anyio.create_task_group() as tasks:
                while (message := await self._link.receive()) is not None:
                    match message:
                        case Asked():
                            tasks.start_soon(self._answer, message)
                        case Answers():
                            if message.id in self._open:
                                done, given = self._open[message.id]
                                given.append(message)
                                done.set()
                        case Told():
                            hear = self._hearing.get(message.what)
                            if hear is not None:
                                hear(message.sender, message.body)
                        case Team():
                            self._team(message)
                        case Start():
                            pass
                self.ended.set()
                tasks.cancel_scope.cancel()
        finally:
            self.ended.set()
            for done, _ in self._open.values():
                done.set()

    async def _answer(self, question: Asked) -> None:
        handler = self._answering.get(question.what)
        if handler is None:
            self._link.send(Reply(question.id, b"", f"this worker does not know {question.what}"))
            return
        try:
            body = await handler(question.body)
        except Exception as error:  # noqa: BLE001  # told to who asked
            _log.debug("a question of another worker failed", exc_info=error)
            self._link.send(Reply(question.id, b"", str(error) or type(error).__name__))
        else:
            self._link.send(Reply(question.id, body))

    def _team(self, team: Team) -> None:
        self.serving = team.serving
        if self.admission is not None:
            self.admission.resize(max(1, len(team.serving)), time.monotonic())
        for changed in self._changed:
            changed()
