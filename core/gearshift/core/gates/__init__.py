"""Validation of answers: one gate a file, and the judge that asks them all."""

from gearshift.core.gates.base import Candidate, Gate, WatchingGate
from gearshift.core.gates.judge import Finding, Judge, Judgement, WindowSettings

__all__ = ["Candidate", "Finding", "Gate", "Judge", "Judgement", "WatchingGate", "WindowSettings"]
