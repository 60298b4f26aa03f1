"""The service of deploy/examples/simulated.yaml, on free ports, over its simulated providers made quick."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from gearshift.server.simulator import Simulator, parse_plan, running_simulator
from tests.support.running_server import RunningServer, from_yaml, running_server

_EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


@asynccontextmanager
async def example_service() -> AsyncGenerator[tuple[RunningServer, Simulator]]:
    """Run both; faults and answers are those of the examples, the latencies are not."""
    plan = re.sub(r"latency: {.*?}", "latency: {first_token_ms: 5, token_ms: 1}", _example("simulator.yaml"))
    async with running_simulator(parse_plan(plan)) as simulator:
        config = _example("simulated.yaml")
        for name, url in simulator.base_urls.items():
            config = re.sub(rf"http://127\.0\.0\.1:8099/p/{name}(/v1)?(?=\n)", url, config)
        async with running_server(from_yaml(config)) as server:
            yield server, simulator


def _example(name: str) -> str:
    return (_EXAMPLES / name).read_text()
