"""What all adapters put into a request: headers, JSON, and the refusal of what cannot be said.

Rules: pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gearshift.core.failures import ProviderFailure
from gearshift.core.provider import Account
from gearshift.core.words import FailureKind


def invalid_request(detail: str) -> ProviderFailure:
    """Give the failure of a call that the provider's format cannot carry."""
    return ProviderFailure(FailureKind.INVALID_REQUEST, detail)


def headers_of(account: Account, *, accept: str = "application/json") -> dict[str, str]:
    """Give the headers that an account asks for, with its key as bearer; its own headers win."""
    headers = {"accept": accept, "content-type": "application/json"}
    if account.api_key:
        headers["authorization"] = f"Bearer {account.api_key}"
    for name, value in account.headers.items():
        headers[name.lower()] = value
    return headers


def encoded(body: Mapping[str, object]) -> bytes:
    """Give a body as JSON.

    Raises:
        ProviderFailure: INVALID_REQUEST, when a text holds a lone surrogate, or a stage's extra fields are no JSON.
    """
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise invalid_request("the request holds half a character (a lone surrogate)") from error
    except TypeError as error:
        raise invalid_request("the stage's extra_body holds what JSON cannot carry") from error


def json_object(text: str, what: str) -> dict[str, object]:
    """Give the JSON object that a text is; an empty text is an empty one.

    Args:
        text: from the caller.
        what: the text's name and its verb, such as "the schema is".

    Raises:
        ProviderFailure: INVALID_REQUEST, when it is none.
    """
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, object])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise invalid_request(f"{what} not a JSON object") from error
