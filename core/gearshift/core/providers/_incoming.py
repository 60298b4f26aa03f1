"""What all adapters do with a response: tell success from refusal, and gather an answer as it comes.

Rules: an error's body never makes things worse than its status does; a gathered answer is pure, it is fed and gives chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from gearshift.core.failures import ProviderFailure
from gearshift.core.http import HttpResponse
from gearshift.core.provider import Chunk
from gearshift.core.providers._wire import cut, failure, is_html, malformed
from gearshift.core.words import FailureKind

ERROR_LIMIT = 1024 * 1024
"""Longest error body that is looked at, bytes; the status of a longer one tells enough."""

FailureOf = Callable[[int, Mapping[str, str], bytes], ProviderFailure]
"""What an error answer means, by its status, headers and body; the body is empty when it broke off."""


def is_answer(response: HttpResponse) -> bool:
    """Tell whether a response is a success in JSON, as nearly all are; of any other, `require_answer` knows more."""
    return response.status == HTTPStatus.OK and response.content_type == "application/json"


async def require_answer(response: HttpResponse, failure_of: FailureOf) -> None:
    """Check that a response is a success that holds an answer.

    Raises:
        ProviderFailure: it is not; MALFORMED for a page for people or a redirect.
    """
    status = response.status
    if status == HTTPStatus.OK:
        if is_html(response.content_type):
            raise malformed("a web page came instead of an answer; check the base URL", status=status)
        return
    if status < HTTPStatus.BAD_REQUEST:
        raise malformed(
            "the provider answered neither with success nor with an error; check the base URL", status=status
        )
    try:
        body = await response.read_all(ERROR_LIMIT)
    except ProviderFailure:
        body = b""
    raise failure_of(status, response.headers, body)


class GatheredAnswer:
    """One answer as far as it has been read. Pure: an adapter's own class feeds it, and it gives chunks.

    A failure is kept, not raised, so that what came before it in the same read is still given.

    Args:
        notes: what building the request left out; it goes with the first chunk.
        label_wrapped: the answer is a document that holds the label.
        want_reasoning: whether reasoning is given.
    """

    def __init__(self, notes: list[str], *, label_wrapped: bool, want_reasoning: bool) -> None:
        self.ended = False
        self.failed: ProviderFailure | None = None
        self.progressed = False
        """Whether anything was written since this was last set to False."""
        self._want_reasoning = want_reasoning
        self._label: list[str] | None = [] if label_wrapped else None
        self._notes = tuple(notes)
        self._next = Chunk()
        self._anything = False
        self._began = False
        self._calls = 0

    def broken_off(self) -> ProviderFailure:
        """Give the failure of an answer after which nothing more comes, though its end has not: EMPTY if none began."""
        return cut() if self._began else failure(FailureKind.EMPTY)

    def chunk(self) -> Chunk | None:
        """Give what came since the last call; None when that was nothing."""
        if not self._anything:
            return None
        given, self._next, self._anything = self._next, Chunk(), False
        given.notes, self._notes = (*self._notes, *given.notes), ()
        return given
