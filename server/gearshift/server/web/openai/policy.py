"""How a stream over SSE is held back and what follows a break in it.

Rules: pure. SSE cannot say retract, so no stream here regenerates what was shown. The caller may only be stricter than the
configuration: `continue` < `fail` < `hold_all`, and more held back.
"""

from __future__ import annotations

from gearshift.core.blueprint import Blueprint
from gearshift.core.config.model import OpenAiConfig
from gearshift.core.errors import InvalidRequestError, invalid
from gearshift.core.request import StreamPolicy
from gearshift.core.words import SwitchMode
from gearshift.server.web.openai.settings import PREFIX, Settings, StreamMode

_STRICTNESS: dict[str, StreamMode] = {"continue": "continue", "fail": "fail", "hold_all": "hold_all"}
_ORDER: tuple[StreamMode, ...] = ("continue", "fail", "hold_all")


def mode_of(config: OpenAiConfig, settings: Settings) -> StreamMode:
    """Give the mode in force.

    Raises:
        InvalidRequestError: the caller asks for a laxer one than is configured.
    """
    configured = _STRICTNESS[config.stream]
    asked = settings.stream or configured
    if _ORDER.index(asked) < _ORDER.index(configured):
        raise _laxer("stream", f"must be {' or '.join(_ORDER[_ORDER.index(configured) :])} here")
    return asked


def stream_policy(blueprint: Blueprint, task_id: str, settings: Settings, mode: StreamMode) -> StreamPolicy:
    """Give the stream's policy.

    Raises:
        InvalidRequestError: the caller asks for less to be held back than is configured.
    """
    if mode == "hold_all":
        # Nobody sees it before its end, so whatever is wrong with it may be mended as in a whole answer.
        return StreamPolicy(mode=SwitchMode.REGENERATE, escalate_at_end=True)
    config, declared = blueprint.config.server.openai, blueprint.tasks.get(task_id)
    standing = blueprint.stream if declared is None else declared.stream
    return StreamPolicy(
        hold_back_tokens=_held(
            "hold_back_tokens", settings.hold_back_tokens, config.hold_back_tokens, standing.hold_back_tokens
        ),
        hold_back_ms=_held("hold_back_ms", settings.hold_back_ms, config.hold_back_ms, standing.hold_back_ms),
        mode=SwitchMode.CONTINUE if mode == "continue" else SwitchMode.FAIL,
        escalate_at_end=False,  # whatever the task says: what was shown cannot be taken back
    )


def _held(name: str, asked: int | None, configured: int | None, standing: int | None) -> int | None:
    least = standing if configured is None else configured
    if asked is not None and least is not None and asked < least:
        raise _laxer(name, f"must be at least {least} here")
    return least if asked is None else asked


def _laxer(name: str, why: str) -> InvalidRequestError:
    return invalid(f"metadata.{PREFIX}{name}", f"{why}: a call may only be stricter than the configuration")
