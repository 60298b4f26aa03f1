"""The `ollama` package: list, describe and pull models.

Rules: nothing else in the core imports the package, and only commands import this file: it loads Rust. Calls are made
once, take what the account says and nothing of the environment, and fail with a `ProviderFailure` like any other.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import httpx
import ollama

from gearshift.core.catalogue import Feature
from gearshift.core.provider import Account
from gearshift.core.providers._wire import classify, failure, malformed
from gearshift.core.sdk.listing import OnProgress, ProviderModel, PullProgress
from gearshift.core.words import FailureKind

TIMEOUT_S = 30.0
"""How long the server may be silent, seconds; a download as a whole may take as long as it needs."""

_FEATURES = {
    "completion": "",
    "embedding": Feature.EMBED.value,
    "thinking": Feature.REASONING.value,
    "tools": Feature.TOOLS.value,
    "vision": Feature.IMAGES.value,
}


async def list_models(account: Account) -> list[ProviderModel]:
    """Give the models that are on the server.

    Raises:
        ProviderFailure: the server refused or could not be reached.
    """
    async with _client(account) as client:
        with _failures():
            listed = await client.list()
    found: list[ProviderModel] = []
    for each in listed.models:
        about = each.details
        details = _details(about.family, about.parameter_size, about.quantization_level) if about is not None else {}
        found.append(ProviderModel(id=each.model or "", size_bytes=int(each.size or 0), details=details))
    return found


async def describe_model(account: Account, model: str) -> ProviderModel:
    """Give one model.

    Raises:
        ProviderFailure: as above; MODEL_NOT_FOUND when it is not on the server.
    """
    async with _client(account) as client:
        with _failures():
            shown = await client.show(model)
    info = shown.modelinfo or {}
    context = next((value for name, value in info.items() if name.endswith(".context_length")), 0)
    features = {_FEATURES.get(each, each) for each in shown.capabilities or ()} - {""}
    about = shown.details
    details = _details(about.family, about.parameter_size, about.quantization_level) if about is not None else {}
    if shown.license:
        details["license"] = shown.license.strip().partition("\n")[0].strip()
    return ProviderModel(
        id=model,
        context_tokens=context if isinstance(context, int) else 0,
        features=tuple(sorted(features)),
        details=details,
    )


async def pull_model(account: Account, model: str, on_progress: OnProgress) -> None:
    """Download a model to the server; returns when it is there.

    Raises:
        ProviderFailure: as above; MODEL_NOT_FOUND when no library has it.
    """
    async with _client(account) as client:
        with _failures():
            async for each in await client.pull(model, stream=True):
                on_progress(
                    PullProgress(
                        status=each.status or "",
                        digest=each.digest or "",
                        completed=each.completed or 0,
                        total=each.total or 0,
                    )
                )


@asynccontextmanager
async def _client(account: Account) -> AsyncGenerator[ollama.AsyncClient]:
    headers = dict(account.headers)
    if account.api_key:
        headers["authorization"] = f"Bearer {account.api_key}"
    keyless = "authorization" not in {name.lower() for name in headers}

    async def without_key(request: httpx.Request) -> None:
        request.headers.pop("authorization", None)

    client = ollama.AsyncClient(
        host=account.base_url or "http://127.0.0.1:11434",
        headers=headers,
        timeout=TIMEOUT_S,
        trust_env=False,
        # The package would send a key that it finds in the environment to whatever server is configured.
        event_hooks={"request": [without_key] if keyless else []},
    )
    async with client:
        yield client


@contextmanager
def _failures() -> Generator[None]:
    """Turn the package's errors, and those of the httpx below it, into ours."""
    try:
        yield
    except ollama.ResponseError as error:
        # A line of a stream that tells an error has no status, which the package gives as -1.
        status = error.status_code if error.status_code > 0 else None
        words = error.error.lower()
        missing = "file does not exist" in words or "pull model manifest" in words
        kind = FailureKind.MODEL_NOT_FOUND if missing else classify(status, (), error.error)
        raise failure(kind, status=status) from error
    except (ConnectionError, httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise failure(FailureKind.CONNECTION) from error
    except httpx.TimeoutException as error:
        raise failure(FailureKind.TOTAL_TIMEOUT) from error
    except ValueError as error:  # JSON that is none, or not of the package's types
        raise malformed("the answer is not what the package expects") from error


def _details(family: str | None, parameters: str | None, quantization: str | None) -> dict[str, str]:
    known = {"family": family, "parameters": parameters, "quantization": quantization}
    return {name: value for name, value in known.items() if value}
