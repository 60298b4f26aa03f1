"""An Envoy in a process of its own, for tests in other languages.

    python -m tests.support.envoy_alone 127.0.0.1:50051 [ORIGIN ...]

Says `calls go to HOST:PORT` once the service behind it gets calls, or `missing: …` where there is no Envoy. It ends when
its input does, so that it never outlives who started it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.support.envoy_proxy import envoy_proxy


async def main(*words: str) -> None:
    """Run it over a service, given first as `host:port`; pages of the origins that follow may call."""
    service, *origins = words
    allowed = [{"exact": origin} for origin in origins]
    with tempfile.TemporaryDirectory(prefix="gearshift-envoy-") as folder:
        async with envoy_proxy([service], Path(folder), origins=allowed) as proxy:
            await proxy.wait_hosts(service)
            print(f"calls go to {proxy.address}", flush=True)
            await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    try:
        anyio.run(main, *sys.argv[1:])
    except pytest.skip.Exception as missing:
        print(f"missing: {missing}", flush=True)
