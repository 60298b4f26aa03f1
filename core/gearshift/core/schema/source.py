"""Take a schema from the caller: a copy that nobody else can change, within the limits.

Rules: size is counted while copying, so that a small graph of shared objects that
would be huge as text is refused before it is written out. The order of keywords
is kept, since messages follow it; the canonical text does not have it.
"""

from collections.abc import Mapping
from typing import Any

from gearshift.core.schema.canonical import canonical_json
from gearshift.core.schema.document import parse_document
from gearshift.core.schema.errors import DocumentError, SchemaError, SchemaLimitError
from gearshift.core.schema.kinds import is_array, is_mapping
from gearshift.core.schema.limits import SchemaLimits

_MAX_INT_BITS = 1400  # about 400 digits, as in documents


def read_schema(schema: Mapping[str, Any] | bool | str, limits: SchemaLimits) -> tuple[Any, str]:
    """Return schema as a value of its own, and its canonical text.

    Raises:
        SchemaError: schema is not JSON.
        SchemaLimitError: schema is too large or too deep.

    """
    try:
        if isinstance(schema, str):
            if len(schema) > limits.schema_bytes:
                raise _too_large(limits)
            value = parse_document(schema, max_depth=limits.json_depth)
        else:
            value = _Copy(limits).of(schema, 0)
        text = canonical_json(value)
        if len(text.encode()) > limits.schema_bytes:
            raise _too_large(limits)
    except (DocumentError, UnicodeEncodeError) as error:
        raise SchemaError("", str(error)[:200]) from error
    return value, text


class _Copy:
    """One copy in the making, with what may still be copied."""

    def __init__(self, limits: SchemaLimits) -> None:
        self.limits = limits
        self.left = limits.schema_bytes

    def of(self, value: Any, depth: int) -> Any:
        self.left -= len(value) + 2 if isinstance(value, str) else 1
        if self.left < 0:
            raise _too_large(self.limits)
        if is_mapping(value) or is_array(value):
            if depth == self.limits.json_depth:
                raise SchemaLimitError("", f"the schema is nested deeper than {depth}")
            if is_mapping(value):
                return {self.of(name, depth): self.of(item, depth + 1) for name, item in value.items()}
            return [self.of(item, depth + 1) for item in value]
        if isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
            raise SchemaLimitError("", "a number of the schema is too long")
        return value


def _too_large(limits: SchemaLimits) -> SchemaLimitError:
    return SchemaLimitError("", f"the schema has more than {limits.schema_bytes} bytes")
