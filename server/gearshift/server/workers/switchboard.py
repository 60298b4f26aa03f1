"""The middle of the bus, in the supervisor: questions and their answers.

Rules: a question is over when everybody who was asked has answered or left, or its time is up, whichever comes first.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import anyio
from msgspec import Struct

from gearshift.server.workers.link import Link
from gearshift.server.workers.messages import Asked, Part, Reply, Tell, Told, ToSupervisor

ASK_S: Final = 1.0
"""How long who does not answer is waited for."""


class Heard(Struct):
    """What came of a question."""

    parts: list[Part]
    missing: list[int]


class _Question:
    def __init__(self, asked: Collection[int]) -> None:
        self.open = set(asked)
        self.parts: list[Part] = []
        self.over = anyio.Event()

    def settle(self, worker: int) -> None:
        self.open.discard(worker)
        if not self.open:
            self.over.set()


class Switchboard:
    """The links to workers that take calls."""

    def __init__(self) -> None:
        self._links: dict[int, Link[ToSupervisor]] = {}
        self._questions: dict[int, _Question] = {}
        self._last = 0

    @property
    def serving(self) -> list[int]:
        """The numbers of those who can be asked."""
        return sorted(self._links)

    def join(self, worker: int, link: Link[ToSupervisor]) -> None:
        """Add a worker."""
        self._links[worker] = link

    def leave(self, worker: int) -> None:
        """Take a worker out; nobody waits for its answers any more."""
        self._links.pop(worker, None)
        for question in self._questions.values():
            question.settle(worker)

    async def ask(self, what: str, body: bytes, *, to: Collection[int] | None = None, within_s: float = ASK_S) -> Heard:
        """Ask workers, all of them unless some are named, and wait for their answers."""
        asked = [worker for worker in (self.serving if to is None else to) if worker in self._links]
        if not asked:
            return Heard([], [])
        self._last += 1
        number, question = self._last, _Question(asked)
        self._questions[number] = question
        try:
            for worker in asked:
                self._links[worker].send(Asked(number, what, body))
            with anyio.move_on_after(within_s):
                await question.over.wait()
        finally:
            del self._questions[number]
        return Heard(sorted(question.parts, key=lambda part: part.worker), sorted(question.open))

    def reply(self, worker: int, reply: Reply) -> None:
        """Take an answer; one that comes too late is dropped."""
        question = self._questions.get(reply.id)
        if question is not None and worker in question.open:
            question.parts.append(Part(worker, reply.body, reply.error))
            question.settle(worker)

    def pass_on(self, sender: int, notice: Tell) -> None:
        """Pass a notice on to those who can take it."""
        for worker in notice.to or self.serving:
            link = self._links.get(worker)
            if worker != sender and link is not None and not link.is_crowded:
                link.send(Told(sender, notice.what, notice.body))

    def tell_all(self, message: Struct) -> None:
        """Send a message to every worker."""
        for link in self._links.values():
            link.send(message)
