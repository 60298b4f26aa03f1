"""A workload played through the real service, on simulated providers that answer with what was recorded."""

from gearshift.server.replay.driver import Run, replay
from gearshift.server.replay.results import Ended
from gearshift.server.replay.trace import Call, Recorded, read_calls
from gearshift.server.replay.workload import mixed, timed

__all__ = ["Call", "Ended", "Recorded", "Run", "mixed", "read_calls", "replay", "timed"]
