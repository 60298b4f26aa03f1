"""Simulated providers and the real service, each a process of its own.

Rules: they are ended by their ids when the block is left; nothing but loopback. A hooked service is `gearshift serve`
with a port that tells what it holds (bench/streams/serve.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.common.process import Process, free_port
from bench.streams.house import House
from bench.streams.proc import Proc

_SERVER = """
server: {{port: {port}, http_port: {http}, max_calls: 4096, watch_config: false}}
ledger: {{path: "{ledger}"}}
telemetry: {{log_level: error}}
"""


@asynccontextmanager
async def running_house(
    folder: Path, plan: Mapping[str, object] | str, config: str, *, hooked: bool = False
) -> AsyncGenerator[House]:
    """Run both while the block runs.

    Args:
        folder: is there, and takes configuration, logs and the ledger, `ledger.db`.
        plan: the simulator's.
        config: the service's, without `server`, `ledger` and `telemetry`; `{url}` stands for where the providers are.
        hooked: whether `House.held` works.

    Raises:
        RuntimeError: one of them does not start.
    """
    plan_file, config_file = folder / "plan.yaml", folder / "gearshift.yaml"
    plan_file.write_text(plan if isinstance(plan, str) else json.dumps(plan), encoding="utf-8")  # JSON is YAML
    simulator, simulator_status, port, http, status = (free_port() for _ in range(5))
    served = _SERVER.format(port=port, http=http, ledger=folder / "ledger.db")
    config_file.write_text(config.replace("{url}", f"http://127.0.0.1:{simulator}/p") + served, encoding="utf-8")
    environment = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    simulate = ["bench.streams.simulate", plan_file, simulator, simulator_status]
    serve = ["gearshift.server", "serve", "--config", config_file]
    if hooked:
        serve = ["bench.streams.serve", config_file, status]
    async with AsyncExitStack() as stack:
        started: list[Process] = []
        for name, listens, command in (
            ("simulate", simulator_status, simulate),
            ("serve", status if hooked else port, serve),
        ):
            process = Process(
                name, [sys.executable, "-m", *map(str, command)], listens, folder / f"{name}.log", environment
            )
            stack.callback(process.stop)
            await process.start()
            started.append(process)
        yield House(port, simulator, Proc(started[1].pid), status, simulator_status, 0)
