"""Fields of a request's JSON, which may hold anything in any place.

Rules: what is needed and missing is a BadRequestError; whatever else is not as expected counts as left out.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

Fields = dict[str, Any]


class BadRequestError(Exception):
    """Raised when a request is not what its wire format says; the message may be shown."""


def body_of(body: bytes) -> Fields:
    """Read a JSON object.

    Raises:
        BadRequestError: it is none.
    """
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequestError("the body is not JSON") from error
    fields = mapping(value)
    if fields is None:
        raise BadRequestError("the body is not a JSON object")
    return fields


def mapping(value: object) -> Fields | None:
    """Give an object; None for anything else."""
    return cast("Fields", value) if isinstance(value, dict) else None


def items(value: object) -> list[object]:
    """Give a list; an empty one for anything else."""
    return cast("list[object]", value) if isinstance(value, list) else []


def text_of(fields: Fields, name: str) -> str:
    """Give a field that must be text.

    Raises:
        BadRequestError: it is missing, or something else.
    """
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequestError(f"{name}: must be text")
    return value


def inputs_of(value: object) -> tuple[str, ...]:
    """Give the texts of an embedding request.

    Raises:
        BadRequestError: they are neither a text nor a list of texts.
    """
    given: list[object] = [value] if isinstance(value, str) else items(value)
    texts = texts_in(given)
    if not texts or len(texts) < len(given):
        raise BadRequestError("input: must be a text or a list of texts")
    return texts


def turns_of(fields: Fields) -> list[Fields]:
    """Give the messages, of which there must be some.

    Raises:
        BadRequestError: there are none.
    """
    turns = [turn for each in items(fields.get("messages")) if (turn := mapping(each)) is not None]
    if not turns:
        raise BadRequestError("messages: must be a list that is not empty")
    return turns


def content_of(content: object) -> str:
    """Give the text of a message's content: a string, or a list of blocks of which some are text."""
    if isinstance(content, str):
        return content
    blocks = [block for each in items(content) if (block := mapping(each)) is not None]
    return "\n\n".join(texts_in([block.get("text") for block in blocks]))


def texts_in(values: list[object]) -> tuple[str, ...]:
    """Give the texts among some values."""
    return tuple(value for value in values if isinstance(value, str))


def count_of(value: object) -> int | None:
    """Give a limit; anything but a whole number from 0 is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def stops_of(value: object) -> tuple[str, ...]:
    """Give stop sequences, from a text or a list."""
    return (value,) if isinstance(value, str) else texts_in(items(value))
