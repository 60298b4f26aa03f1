"""The fault table: every fault that a run may meet, and where it makes sense.

Rules: a fault with a place strikes after a number of tokens that is drawn from the seed and the run's number, out of
PLACES evenly spread ones; a run says which by a marker in its prompt, since not every gateway passes headers on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from zlib import crc32

from bench.faults.work import MODES, Mode, answer_tokens

PLACES = 24
_TEXT = tuple(mode for mode in MODES if not mode.json)
_JSON = tuple(mode for mode in MODES if mode.json)
_STREAMS = tuple(mode for mode in MODES if mode.stream)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault.

    Args:
        fault: the simulator's word for it, with `@` where the place goes; empty is none.
        must: callers must get a valid answer; the rest is printed for information.
        waits: it takes seconds by its nature, so more runs go on at once.
        gone: the provider refuses connections.
        lasts_s: how long it may go on to matter after it was met, such as a Retry-After.
    """

    name: str
    means: str
    fault: str = ""
    modes: tuple[Mode, ...] = MODES
    must: bool = True
    waits: bool = False
    gone: bool = False
    lasts_s: float = 0.0

    def faults(self, mode: Mode) -> list[str]:
        """Give every form that the fault takes in a mode, one for each place."""
        if "@" not in self.fault:
            return [self.fault] if self.fault else []
        tokens = answer_tokens(mode)
        places = sorted({tokens * place // PLACES for place in range(PLACES)})
        head, _, tail = self.fault.partition("@")
        return [f"{head}@{place}{tail}" for place in places]

    def drawn(self, mode: Mode, seed: int, number: int) -> str:
        """Give the fault of a run."""
        faults = self.faults(mode)
        return random.Random(f"{seed} {self.name} {mode.name} {number}").choice(faults) if faults else ""

    def marker(self, mode: Mode, seed: int, number: int) -> str:
        """Give what the run's prompt holds."""
        fault = self.drawn(mode, seed, number)
        return mark_of(fault) if fault else ""


def mark_of(fault: str) -> str:
    """Give a fault's mark: no words, since a prompt that speaks of a language makes answers in others lawful."""
    return f"[[{crc32(fault.encode()):08x}]]"


NO_FAULT = Row(name="no fault", means="the provider is healthy")
ROWS = (
    NO_FAULT,
    Row(name="connection refused", means="nothing listens", gone=True),
    Row(name="connection reset", means="reset once the request has come", fault="reset"),
    Row(name="hang", means="nothing comes for 30 s, not even headers", fault="hang:30", waits=True),
    Row(name="401", means="the key is refused", fault="unauthorized"),
    Row(name="429", means="rate limit without Retry-After", fault="rate_limited"),
    Row(name="429 Retry-After", means="rate limit, Retry-After: 1", fault="rate_limited:1", lasts_s=1.2),
    Row(name="500", means="server error", fault="server_error"),
    Row(name="503", means="unavailable", fault="unavailable"),
    Row(name="529", means="overloaded", fault="overloaded"),
    Row(name="empty 200", means="200 and nothing in it", fault="empty"),
    Row(name="HTML", means="200 and a web page", fault="html"),
    Row(name="wrong type", means="the right body as application/octet-stream", fault="wrong_type"),
    Row(name="error in 200", means="200, n tokens, then an error (a unary body is the error alone)", fault="error_in_stream@"),
    Row(name="cut", means="the connection is reset after n tokens", fault="cut@"),
    Row(name="close", means="the connection is closed after n tokens, the body is not ended", fault="close@"),
    Row(name="stall", means="n tokens, then silence for 30 s", fault="stall@:30", waits=True),
    Row(name="slow drip", means="from token n on 0.15 s a token", fault="drip@:0.15", waits=True),
    Row(name="malformed frame", means="a frame after n tokens is not JSON", fault="malformed@"),
    Row(name="invalid UTF-8", means="a frame after n tokens is no text", fault="invalid_utf8@"),
    Row(name="no end", means="the body ends in order after n tokens, nothing more", fault="no_end@", modes=_STREAMS),
    Row(name="no end mark", means="all is there but [DONE]", fault="no_done", modes=_STREAMS),
    Row(name="no usage", means="tokens are not counted", fault="no_usage"),
    Row(name="duplicate frame", means="a frame comes twice", fault="duplicate@", modes=(MODES[1],)),
    Row(name="duplicate, text", means="a frame of text comes twice, which nobody can know", fault="duplicate@",
        modes=(MODES[0],), must=False),
    Row(name="breaks schema", means="the JSON is wrong from token n on", fault="bad_json@", modes=_JSON),
    Row(name="loop", means="from token n on the last words repeat 256 times", fault="loop@:256"),
    Row(name="refusal", means="after n tokens the model says that it cannot help", fault="refusal@"),
    Row(name="filtered", means="after n tokens the provider's filter ends the answer", fault="filtered@", must=False),
    Row(name="other language", means="from token n on the text is Russian", fault="language@:ru", modes=_TEXT, must=False),
)  # fmt: skip
