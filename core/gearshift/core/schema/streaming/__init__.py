"""JSON checked against its schema while it streams."""

from gearshift.core.schema.streaming.checker import StreamChecker
from gearshift.core.schema.streaming.filter import FenceFilter
from gearshift.core.schema.streaming.issue import StreamIssue

__all__ = ["FenceFilter", "StreamChecker", "StreamIssue"]
