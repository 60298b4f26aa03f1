"""What a model server says of itself, read from its own words.

Rules: pure; what a server does not say is None, never zero, and what cannot be read is an error with a sentence. Sources:
vLLM's "Production Metrics" (docs.vllm.ai/en/stable/usage/metrics), llama.cpp's server README (`/metrics`), Ollama's API
reference (`GET /api/ps`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

_SAMPLE = re.compile(
    r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{[^\n]*\})?[ \t]+([^ \t\n]+)(?:[ \t]+[0-9.]+)?[ \t]*$", re.MULTILINE
)

_VLLM_RUNNING: Final = "vllm:num_requests_running"
_VLLM_WAITING: Final = "vllm:num_requests_waiting"
_VLLM_CACHE: Final = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")
"""Its present name, and the one before engine version 1."""
_LLAMACPP_RUNNING: Final = "llamacpp:requests_processing"
_LLAMACPP_WAITING: Final = "llamacpp:requests_deferred"
_LLAMACPP_CACHE: Final = "llamacpp:kv_cache_usage_ratio"
"""Older versions only."""
_MOST_LOADED = 32


class UnreadableError(ValueError):
    """Raised when a server's answer is not what its documentation says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that a server holds in memory.

    Args:
        bytes / vram_bytes: what it takes, and the part of it in the graphics card's memory.
        expires_at: when the server will drop it, seconds since the epoch; None when it does not say.

    """

    name: str
    bytes: int
    vram_bytes: int
    expires_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a server said.

    Args:
        running: requests that it works on.
        queued: requests that wait in it.
        cache_used: share of its key-value cache in use, 0 to 1.
        loaded: models in its memory, where it says that.

    """

    running: int | None = None
    queued: int | None = None
    cache_used: float | None = None
    loaded: tuple[Loaded, ...] = ()


def read_vllm(body: bytes) -> Reading:
    """Read vLLM's `/metrics`; several engines or models of one server are added up.

    Raises:
        UnreadableError: it has no such metrics.

    """
    sums = _samples(body)
    if _VLLM_RUNNING not in sums:
        raise UnreadableError(f"/metrics has no {_VLLM_RUNNING}: is this a vLLM server?")
    cache = next((sums[name] for name in _VLLM_CACHE if name in sums), None)
    return Reading(
        running=_count(sums[_VLLM_RUNNING][0]),
        queued=_count(sums[_VLLM_WAITING][0]) if _VLLM_WAITING in sums else None,
        cache_used=None if cache is None else _share(cache[1]),
    )


def read_llamacpp(body: bytes) -> Reading:
    """Read llama.cpp's `/metrics`.

    Raises:
        UnreadableError: it has no such metrics.

    """
    sums = _samples(body)
    if _LLAMACPP_RUNNING not in sums:
        raise UnreadableError(f"/metrics has no {_LLAMACPP_RUNNING}: start llama-server with --metrics")
    return Reading(
        running=_count(sums[_LLAMACPP_RUNNING][0]),
        queued=_count(sums[_LLAMACPP_WAITING][0]) if _LLAMACPP_WAITING in sums else None,
        cache_used=_share(sums[_LLAMACPP_CACHE][1]) if _LLAMACPP_CACHE in sums else None,
    )


class _Model(msgspec.Struct):
    name: str = ""
    model: str = ""
    size: int = 0
    size_vram: int = 0
    expires_at: str = ""


class _Models(msgspec.Struct):
    models: list[_Model] = []


_MODELS = msgspec.json.Decoder(_Models)


def read_ollama(body: bytes) -> Reading:
    """Read Ollama's `/api/ps`. It says which models are loaded; it has no count of running or waiting requests.

    Raises:
        UnreadableError: it is not that.

    """
    try:
        found = _MODELS.decode(body).models
    except msgspec.DecodeError as error:
        raise UnreadableError("/api/ps did not answer with a list of models: is this an Ollama server?") from error
    loaded = [
        Loaded(
            name=each.name or each.model,
            bytes=max(0, each.size),
            vram_bytes=max(0, each.size_vram),
            expires_at=_moment(each.expires_at),
        )
        for each in found[:_MOST_LOADED]
    ]
    return Reading(loaded=tuple(loaded))


def _samples(body: bytes) -> Mapping[str, tuple[float, float]]:
    """Give the sum and the maximum of each metric's samples, over all of their labels."""
    found: dict[str, tuple[float, float]] = {}
    for name, text in _SAMPLE.findall(body.decode("utf-8", "replace")):
        if name not in _WANTED:
            continue
        try:
            value = float(text)
        except ValueError:
            continue
        if not math.isfinite(value):
            continue
        total, most = found.get(name, (0.0, 0.0))
        found[name] = (total + value, max(most, value))
    return found


_WANTED: Final = frozenset(
    {_VLLM_RUNNING, _VLLM_WAITING, *_VLLM_CACHE, _LLAMACPP_RUNNING, _LLAMACPP_WAITING, _LLAMACPP_CACHE}
)


def _count(value: float) -> int:
    return max(0, round(value))


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def _moment(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None
