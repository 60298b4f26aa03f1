"""The columns of the ledger's tables, and the values that go into them.

Rules: pure; one order of columns for both databases; money is stored as the dialect says.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from gearshift.core.catalogue.money import from_pico
from gearshift.core.ledger.row import LedgerRow, MachineTime, OutcomeReport, verdicts_text
from gearshift.core.ledger.store import SEQUENCE_BITS, Dialect, Value

TOKEN_COLUMNS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "reasoning_tokens",
)

_MOST_TOKENS: Final = 10**12  # keeps sums within 64 bits, whatever a provider reports
_LARGEST: Final = 2**63 - 1  # pico-USD
_LARGEST_USD: Final = from_pico(_LARGEST)


def attempt_columns(dialect: Dialect) -> tuple[str, ...]:
    """Give the columns of `attempts` that a row fills, in the order of `attempt_values`."""
    suffix = dialect.money_suffix
    return (
        "id", "request_id", "tenant", "task_id", "task_type", "declared", "chain", "position", "provider", "account",
        "model", "number", "role", "cause", "outcome", "failure", "reason", *TOKEN_COLUMNS, "usage_source",
        f"cost_{suffix}", "queue_ms", "first_token_ms", "total_ms", "verdicts", "served", "started_at",
        f"strongest_{suffix}", "config_revision", "stream",
    )  # fmt: skip


def insert_attempt(dialect: Dialect) -> str:
    """Give the statement that writes a row once, however often it is run."""
    return _insert("attempts", attempt_columns(dialect)) + " ON CONFLICT (id) DO NOTHING"


def insert_machine_time(dialect: Dialect) -> str:
    """Give the statement that writes a machine's period once, however often it is run."""
    columns = ("id", "provider", "machine", "started_at", "ended_at", "busy_s", f"cost_{dialect.money_suffix}")
    return _insert("machine_time", columns) + " ON CONFLICT (id) DO NOTHING"


INSERT_OUTCOME: Final = (
    "INSERT INTO outcomes (tenant, request_id, verdict, correction, reported_at) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (tenant, request_id) DO UPDATE SET verdict = excluded.verdict, correction = excluded.correction, "
    "reported_at = excluded.reported_at"
)


def row_id(writer: int, sequence: int) -> int:
    """Give the id of a writer's item; `sequence` is how many it wrote before."""
    return (writer << SEQUENCE_BITS) + sequence


def attempt_values(row: LedgerRow, key: int, stored: Callable[[Decimal], Value]) -> tuple[Value, ...]:
    """Give a row's values.

    Raises:
        ArithmeticError: an amount is not finite; also a ValueError.

    """
    call, attempt = row.call, row.attempt
    usage, stage = attempt.usage, attempt.stage
    tokens: tuple[int, ...] = (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_tokens,
        usage.reasoning_tokens,
    )
    if max(tokens) > _MOST_TOKENS:
        tokens = tuple([min(each, _MOST_TOKENS) for each in tokens])
    return (
        key,
        call.request_id,
        call.tenant,
        call.task_id,
        call.task_type.word,
        call.declared,
        call.chain,
        stage.position,
        stage.provider,
        attempt.account,
        stage.model,
        attempt.number,
        attempt.role.word,
        attempt.cause.word,
        attempt.outcome.word,
        None if attempt.failure is None else attempt.failure.word,
        row.reason,
        *tokens,
        usage.source.word,
        money_value(attempt.cost_usd, stored),
        attempt.queue_ms,
        attempt.first_token_ms,
        attempt.total_ms,
        verdicts_text(attempt.verdicts),
        attempt.served,
        attempt.started_at,
        money_value(row.strongest_usd, stored),
        call.config_revision,
        call.stream,
    )


def machine_values(time: MachineTime, key: int, stored: Callable[[Decimal], Value]) -> tuple[Value, ...]:
    """Give the values of a machine's period."""
    cost = stored(time.cost_usd)
    return (key, time.provider, time.machine, time.started_at, time.ended_at, time.busy_s, cost)


def outcome_values(outcome: OutcomeReport) -> tuple[Value, ...]:
    """Give the values of a caller's word on an answer."""
    return (outcome.tenant, outcome.request_id, outcome.verdict.word, outcome.correction, outcome.reported_at)


def money_value(usd: Decimal | None, stored: Callable[[Decimal], Value]) -> Value:
    """Give what is stored for an amount; None for what is unknown."""
    if usd is None:
        return None
    value = stored(usd)
    # Over 9 million USD for one attempt: the usage is no usage.
    if isinstance(value, int):
        return value if -_LARGEST <= value <= _LARGEST else None
    return value if abs(usd) <= _LARGEST_USD else None


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
