"""How many instances of a self-hosted model a workload needs, and what they cost against an API's bill."""

from gearshift.core.sizing.queue import Waits, simulate
from gearshift.core.sizing.size import Instance, Row, Sizing, size
from gearshift.core.sizing.trace import Arrival, TraceError, read_trace

__all__ = ["Arrival", "Instance", "Row", "Sizing", "TraceError", "Waits", "read_trace", "simulate", "size"]
