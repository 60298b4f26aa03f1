"""Compiled schemas, kept by the hash of their canonical text.

Rules: bounded in entries and in nodes, the least recently used go first. Not for
several threads at once.
"""

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from gearshift.core.schema.compile import compile_value
from gearshift.core.schema.limits import DEFAULT_LIMITS, SchemaLimits
from gearshift.core.schema.schema import Schema
from gearshift.core.schema.source import read_schema


class SchemaCache:
    """The schemas that are in use, compiled once each."""

    def __init__(
        self,
        *,
        max_schemas: int = 512,
        max_nodes: int = 200_000,
        limits: SchemaLimits = DEFAULT_LIMITS,
        assert_formats: bool = False,
    ) -> None:
        """Make an empty cache.

        Args:
            max_schemas: most schemas kept, from 1.
            max_nodes: most nodes of all schemas together, from 1; a node takes about 2 KB.
            limits: as for `compile_schema`.
            assert_formats: as for `compile_schema`.

        """
        self._max_schemas = max_schemas
        self._max_nodes = max_nodes
        self._limits = limits
        self._assert_formats = assert_formats
        self._schemas: OrderedDict[bytes, Schema] = OrderedDict()
        self._nodes = 0
        self._hits = 0
        self._misses = 0

    def get(self, schema: Mapping[str, Any] | bool | str) -> Schema:
        """Return schema compiled, from the cache where it can.

        A text is looked up as it is written, a value by its canonical text.

        Raises:
            SchemaError: as `compile_schema`; nothing is kept then.

        """
        if isinstance(schema, str):
            key = sha256(schema.encode(errors="surrogatepass")).digest()
            if (known := self._found(key)) is not None:
                return known
            value, canonical = read_schema(schema, self._limits)
        else:
            value, canonical = read_schema(schema, self._limits)
            key = sha256(canonical.encode()).digest()
            if (known := self._found(key)) is not None:
                return known
        self._misses += 1
        compiled = compile_value(value, canonical, limits=self._limits, assert_formats=self._assert_formats)
        self._schemas[key] = compiled
        self._nodes += len(compiled.nodes)
        while len(self._schemas) > 1 and (len(self._schemas) > self._max_schemas or self._nodes > self._max_nodes):
            _, oldest = self._schemas.popitem(last=False)
            self._nodes -= len(oldest.nodes)
        return compiled

    def statistics(self) -> dict[str, int]:
        """Return how many schemas and nodes are kept, and how often one was found or not."""
        return {"schemas": len(self._schemas), "nodes": self._nodes, "hits": self._hits, "misses": self._misses}

    def __len__(self) -> int:
        return len(self._schemas)

    def _found(self, key: bytes) -> Schema | None:
        known = self._schemas.get(key)
        if known is not None:
            self._hits += 1
            self._schemas.move_to_end(key)
        return known
