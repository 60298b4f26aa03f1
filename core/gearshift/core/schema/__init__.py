"""JSON Schema 2020-12 and draft-07: compile once, check often, bounded on hostile input."""

from gearshift.core.schema.cache import SchemaCache
from gearshift.core.schema.canonical import canonical_json, identity_key
from gearshift.core.schema.compile import compile_schema
from gearshift.core.schema.document import parse_document
from gearshift.core.schema.errors import CheckLimitError, DocumentError, SchemaError, SchemaLimitError
from gearshift.core.schema.fence import strip_fence
from gearshift.core.schema.issue import SchemaIssue
from gearshift.core.schema.limits import DEFAULT_LIMITS, SchemaLimits
from gearshift.core.schema.schema import Schema

__all__ = [
    "DEFAULT_LIMITS",
    "CheckLimitError",
    "DocumentError",
    "Schema",
    "SchemaCache",
    "SchemaError",
    "SchemaIssue",
    "SchemaLimitError",
    "SchemaLimits",
    "canonical_json",
    "compile_schema",
    "identity_key",
    "parse_document",
    "strip_fence",
]
