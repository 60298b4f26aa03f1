"""Streams of the running service, recorded: each fault of the simulator, and each way to switch.

Rules: real HTTP below, real gRPC above; the simulator's seed is fixed and every call has an id of its own. Two recordings
of a stream differ in how the network cut it into messages, so they are compared by their skeletons.
"""

from __future__ import annotations

from typing import Any

from tests.conformance.format import Json
from tests.conformance.scripted_streams import scripted_streams
from tests.conformance.simulated_streams import simulated_streams


async def recorded() -> list[Json]:
    """Record every stream."""
    return [*await simulated_streams(), *await scripted_streams()]


def skeleton(case: Json) -> list[Any]:
    """Give what must be the same in every recording of a stream."""
    found: list[Any] = []
    for message in case["messages"]:
        for event in message["events"]:
            kind, value = next(iter(event.items()))
            line: Any = kind
            match kind:
                case "attempt":
                    line = (kind, value["number"], value["stage"]["provider"], value["role"], value["cause"])
                case "switch":
                    line = (kind, value["mode"], value["toStage"]["provider"])
                case "completed":
                    completion = value["completion"]
                    ends = [(one["outcome"], one.get("failure", "")) for one in completion.get("attempts", [])]
                    line = (kind, completion["outcome"], *ends)
                case _:
                    pass
            if not (kind in ("delta", "checkpoint") and line in found[-2:]):
                found.append(line)
    expected, error = case["expected"], case["expected"]["error"]
    if expected["outcome"] != "OUTCOME_FAILED":  # how much of a partial arrived is the network's affair
        found += [expected["text"], expected["toolCalls"]]
    return [*found, expected["digestMatches"], error and (error["kind"], error["code"], error["reason"])]
