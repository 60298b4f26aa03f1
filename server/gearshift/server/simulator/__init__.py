"""A simulator of providers: their wire formats, their faults, and an account of what they would bill."""

from gearshift.server.simulator.account import Account, Entry
from gearshift.server.simulator.faults import Fault, FaultKind, fault
from gearshift.server.simulator.plan import Plan, load_plan, parse_plan
from gearshift.server.simulator.provider import FAULT_HEADER, KEY_HEADER
from gearshift.server.simulator.server import Simulator, running_simulator

__all__ = [
    "FAULT_HEADER",
    "KEY_HEADER",
    "Account",
    "Entry",
    "Fault",
    "FaultKind",
    "Plan",
    "Simulator",
    "fault",
    "load_plan",
    "parse_plan",
    "running_simulator",
]
