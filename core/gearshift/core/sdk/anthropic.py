"""The `anthropic` package: list and describe models, count tokens.

Rules: nothing else in the core imports the package, and only commands import this file: it takes a second and loads
Rust. Calls are made once, take what the account says and nothing of the environment, and fail with a `ProviderFailure`
like any other.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import anthropic
from anthropic.types import ModelInfo

from gearshift.core.catalogue import Feature
from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Account
from gearshift.core.providers._wire import classify, failure, malformed, retry_after_s
from gearshift.core.sdk.listing import ProviderModel
from gearshift.core.words import FailureKind

TIMEOUT_S = 30.0
"""How long one request may take, seconds."""

_PAGE = 1000
"""Most models a page may have."""


async def list_models(account: Account) -> list[ProviderModel]:
    """Give every model that the account may know of, retired ones too, newest first.

    Raises:
        ProviderFailure: the provider refused or could not be reached.
    """
    async with _client(account) as client:
        with _failures():
            return [_described(info) async for info in client.models.list(limit=_PAGE)]


async def describe_model(account: Account, model: str) -> ProviderModel:
    """Give one model; an alias gives the model that it stands for.

    Raises:
        ProviderFailure: as above; MODEL_NOT_FOUND when there is none.
    """
    async with _client(account) as client:
        with _failures():
            return _described(await client.models.retrieve(model))


async def count_tokens(account: Account, model: str, text: str, *, system: str = "") -> int:
    """Give the input tokens of one user turn, as the provider counts them.

    Raises:
        ProviderFailure: as above.
    """
    async with _client(account) as client:
        with _failures():
            counted = await client.messages.count_tokens(
                model=model,
                messages=[{"role": "user", "content": text}],
                system=system or anthropic.omit,
            )
            return counted.input_tokens


@asynccontextmanager
async def _client(account: Account) -> AsyncGenerator[anthropic.AsyncAnthropic]:
    if not account.api_key:
        # Without one the package would look for credentials in the environment and on disk.
        raise ProviderFailure(FailureKind.AUTHENTICATION, "the account has no key")
    http = anthropic.DefaultAsyncHttpxClient(trust_env=False)
    try:
        yield anthropic.AsyncAnthropic(
            api_key=account.api_key,
            base_url=account.base_url or "https://api.anthropic.com",
            default_headers=dict(account.headers),
            http_client=http,
            max_retries=0,
            open_telemetry=False,
            timeout=TIMEOUT_S,
        )
    finally:
        await http.aclose()


@contextmanager
def _failures() -> Generator[None]:
    """Turn the package's errors into ours."""
    try:
        yield
    except anthropic.APIStatusError as error:
        status = error.status_code
        kind = classify(status, (error.error_code or "", error.type or ""), error.api_message or "")
        wait = retry_after_s(error.response.headers, now=time.time())
        raise failure(kind, status=status, retry_after_s=wait) from error
    except anthropic.APITimeoutError as error:
        raise failure(FailureKind.TOTAL_TIMEOUT) from error
    except anthropic.APIConnectionError as error:
        raise failure(FailureKind.CONNECTION) from error
    except anthropic.APIError as error:
        raise malformed("the answer is not what the package expects") from error


def _described(info: ModelInfo) -> ProviderModel:
    can = info.capabilities
    features: dict[str, bool] = {}
    if can is not None:
        features = {
            Feature.IMAGES.value: can.image_input.supported,
            Feature.JSON_SCHEMA.value: can.structured_outputs.supported,
            Feature.REASONING.value: can.thinking.supported,
            "batch": can.batch.supported,
            "effort": can.effort.supported,
        }
    details = {"created_at": info.created_at.date().isoformat()}
    if info.deprecated_at is not None:
        details["deprecated_at"] = info.deprecated_at.date().isoformat()
    return ProviderModel(
        id=info.id,
        name=info.display_name,
        lifecycle=info.lifecycle,
        retires_at=info.retires_at,
        context_tokens=info.max_input_tokens or 0,
        max_output_tokens=info.max_tokens or 0,
        features=tuple(sorted(name for name, supported in features.items() if supported)),
        details=details,
    )
