"""Which kinds of provider can be asked how hard they are pressed, and where."""

from __future__ import annotations

_DIALECTS = frozenset({"vllm", "llamacpp"})


def watched_kind(kind: str, dialect: str) -> str:
    """Give how a provider's pressure is asked for: `vllm`, `llamacpp`, `ollama`; empty when it is not."""
    if kind == "openai":
        return dialect if dialect in _DIALECTS else ""
    return {"ollama": "ollama", "embedded": "llamacpp"}.get(kind, "")


def question_url(watched: str, base_url: str) -> str:
    """Give what to ask: `/metrics` and `/api/ps` stand at the server's root, not below `/v1`."""
    if watched == "ollama":
        return f"{base_url}/api/ps"
    return f"{base_url.removesuffix('/v1')}/metrics"
