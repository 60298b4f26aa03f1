"""The ledger's rows as a Parquet file: the one file that imports pyarrow, for a command and never in the service.

Rules: money is DECIMAL(38, 12), exact; times are UTC microseconds; memory is bounded by a row group.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from gearshift.core.ledger.export import (
    EXPORTED,
    MONEY_COLUMNS,
    NUMBER_COLUMNS,
    TRUTH_COLUMNS,
    WHOLE_COLUMNS,
    Row,
)

GROUP_ROWS: Final = 20_000

_arrow: Any = pyarrow  # it has no types


def write_parquet(pages: Iterator[list[Row]], file: Path) -> int:
    """Write pages as a Parquet file, compressed with Zstandard; give how many rows.

    Raises:
        OSError: the file cannot be written.

    """
    schema = _arrow.schema([(name, _type(name)) for name in EXPORTED])
    written = 0
    waiting: list[Row] = []
    with _arrow.parquet.ParquetWriter(str(file), schema, compression="zstd") as writer:
        for page in pages:
            waiting += page
            if len(waiting) >= GROUP_ROWS:
                writer.write_table(_table(waiting, schema))
                written += len(waiting)
                waiting = []
        writer.write_table(_table(waiting, schema))
    return written + len(waiting)


def _table(rows: list[Row], schema: Any) -> Any:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(EXPORTED)
    arrays = [_arrow.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return _arrow.Table.from_arrays(arrays, schema=schema)


def _type(name: str) -> Any:
    if name == "started_at":
        return _arrow.timestamp("us", tz="UTC")
    if name in MONEY_COLUMNS:
        return _arrow.decimal128(38, 12)
    if name in TRUTH_COLUMNS:
        return _arrow.bool_()
    if name in WHOLE_COLUMNS:
        return _arrow.int64()
    if name in NUMBER_COLUMNS:
        return _arrow.float64()
    return _arrow.string()
