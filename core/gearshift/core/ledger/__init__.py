"""The ledger: one durable row for every attempt, and what they cost together."""

from gearshift.core.ledger.base import Ledger, LedgerStatus
from gearshift.core.ledger.buffered import BufferedLedger, Patience
from gearshift.core.ledger.listing import AttemptQuery, RecordedAttempt
from gearshift.core.ledger.prune import Pruned
from gearshift.core.ledger.report import CostQuery, CostReport, CostRow, MachineRow
from gearshift.core.ledger.row import LedgerCall, LedgerRow, MachineTime, OutcomeReport, rows_of
from gearshift.core.ledger.sqlite import SqliteLedger
from gearshift.core.ledger.traffic import TrafficPoint, TrafficQuery

__all__ = [
    "AttemptQuery",
    "BufferedLedger",
    "CostQuery",
    "CostReport",
    "CostRow",
    "Ledger",
    "LedgerCall",
    "LedgerRow",
    "LedgerStatus",
    "MachineRow",
    "MachineTime",
    "OutcomeReport",
    "Patience",
    "Pruned",
    "RecordedAttempt",
    "SqliteLedger",
    "TrafficPoint",
    "TrafficQuery",
    "rows_of",
]
