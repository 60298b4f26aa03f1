"""The ledger: one durable row for every attempt, and what they cost together."""

from gearshift.core.ledger.base import Ledger, LedgerStatus
from gearshift.core.ledger.report import CostQuery, CostReport, CostRow
from gearshift.core.ledger.row import LedgerCall, LedgerRow, OutcomeReport, rows_of
from gearshift.core.ledger.sqlite import SqliteLedger

__all__ = [
    "CostQuery",
    "CostReport",
    "CostRow",
    "Ledger",
    "LedgerCall",
    "LedgerRow",
    "LedgerStatus",
    "OutcomeReport",
    "SqliteLedger",
    "rows_of",
]
