"""Keys that come and go while the service runs."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import anyio
import grpc
import grpc.aio
import pytest
from msgspec import structs

from gearshift.core.config.model import AccessConfig, TenantConfig
from gearshift.core.errors import AccessError, ConfigError
from gearshift.server.keyfile import StoredKey, changing, new_key, utc
from gearshift.server.keyring import Keyring
from gearshift.v1 import ops_pb2, router_pb2
from tests.support.blueprints import stage
from tests.support.changed import changed
from tests.support.running_server import BOUND_S, RunningServer, failure_of, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def added(file: Path, *, key_id: str, tenant: str = "acme", role: str = "caller", expires: str = "") -> str:
    key, stored = new_key(tenant=tenant, role=role, key_id=key_id, expires=expires)
    with changing(str(file)) as keys:
        keys.append(stored)
    return key


def revoked(file: Path, key_id: str) -> None:
    with changing(str(file)) as keys:
        keys[:] = [structs.replace(each, revoked=utc(time.time())) if each.id == key_id else each for each in keys]


def access_of(file: Path) -> AccessConfig:
    return AccessConfig(keys_file=str(file), tenants={"acme": TenantConfig()})


async def told(server: RunningServer, key: str) -> str:
    """Give how a call with the key ends."""
    try:
        await server.route(plain_call(), metadata=bearer(key))
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {failure_of(error).message}"
    return "OK"


async def until_told(server: RunningServer, key: str, wanted: str) -> None:
    with anyio.fail_after(BOUND_S):
        while await told(server, key) != wanted:
            await anyio.sleep(0.05)


async def test_keys_come_and_go_on_a_running_server(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), access=access_of(file)), providers=providers) as server:
        # A file that is not there yet lets nobody in.
        assert (await told(server, "gs_a_00")) == "UNAUTHENTICATED: this key is unknown"
        assert any("gearshift keys create" in each for each in server.app.status().warnings)
        key = added(file, key_id="a")
        await until_told(server, key, "OK")
        assert server.app.status().warnings == []
        other = added(file, key_id="b")
        await until_told(server, other, "OK")
        revoked(file, "a")
        await until_told(server, key, "UNAUTHENTICATED: this key was revoked")
        assert await told(server, other) == "OK"


async def test_running_stream_of_a_revoked_key_ends_well(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key, gate = added(file, key_id="a"), anyio.Event()
    providers = {"p0": ScriptedProvider([changed(says("still", " here"), waits_for=gate)])}
    async with running_server(of_stages(stage(0), access=access_of(file)), providers=providers) as server:
        request = router_pb2.StreamRouteRequest(call=plain_call())
        stream = server.router.StreamRoute(request, metadata=bearer(key), timeout=BOUND_S)
        kinds: list[str | None] = []
        first = await stream.read()
        assert isinstance(first, router_pb2.StreamRouteResponse)
        revoked(file, "a")
        server.app.keys.follow()
        assert await told(server, key) == "UNAUTHENTICATED: this key was revoked"
        gate.set()
        while isinstance(message := await stream.read(), router_pb2.StreamRouteResponse):
            kinds += [event.WhichOneof("kind") for event in message.events]
        assert kinds[-1] == "completed"
        assert await stream.code() is grpc.StatusCode.OK


async def test_revoked_operator_sees_no_further_attempt(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key, ops = added(file, key_id="a"), added(file, key_id="o", role="ops")
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), access=access_of(file)), providers=providers) as server:
        watch = server.ops.WatchAttempts(ops_pb2.WatchAttemptsRequest(), metadata=bearer(ops))
        await watch.initial_metadata()
        assert await told(server, key) == "OK"
        seen = await watch.read()
        assert isinstance(seen, ops_pb2.WatchAttemptsResponse) and seen.tenant == "acme"
        revoked(file, "o")
        server.app.keys.follow()
        assert await told(server, key) == "OK"
        with pytest.raises(grpc.aio.AioRpcError) as caught, anyio.fail_after(BOUND_S):
            await watch.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_wrong_file_keeps_the_keys_of_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    key = added(file, key_id="a")
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), access=access_of(file)), providers=providers) as server:
        good = file.read_text()
        for wrong in ("nonsense", None):
            if wrong is None:
                file.unlink()
            else:
                file.write_text(wrong)
            server.app.keys.follow()
            assert await told(server, key) == "OK"
            assert any("the keys of before stay in force" in each for each in server.app.status().warnings)
        file.write_text(good)
        server.app.keys.follow()
        assert server.app.status().warnings == []
    assert "the keys of before stay in force" in caplog.text


async def test_reload_reads_the_keys_and_refuses_wrong_ones(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    ops = added(file, key_id="o", role="ops")
    made = of_stages(stage(0), access=access_of(file))
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(made, providers=providers, read=lambda: made) as server:
        reload = ops_pb2.ReloadRequest()
        assert not (await server.ops.Reload(reload, metadata=bearer(ops))).changed
        key = added(file, key_id="a")
        assert (await server.ops.Reload(reload, metadata=bearer(ops))).changed
        assert await told(server, key) == "OK"
        file.write_text("nonsense")
        with pytest.raises(grpc.aio.AioRpcError, match=r"keys:1: is no key") as caught:
            await server.ops.Reload(reload, metadata=bearer(ops))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert await told(server, key) == "OK"


def test_key_runs_out_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    now = time.time()
    key = added(file, key_id="a", expires=utc(now + 3600))
    access = Keyring(access_of(file)).access
    assert access.caller(bearer(key)).tenant == "acme"
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    with pytest.raises(AccessError, match="this key has run out") as caught:
        access.caller(bearer(key))
    assert caught.value.cause == "expired"


def test_who_does_not_hold_the_key_hears_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    added(file, key_id="a", expires="2020-01-01")
    added(file, key_id="b")
    revoked(file, "b")
    access = Keyring(access_of(file)).access
    for guessed in ("gs_a_" + "0" * 64, "gs_b_" + "0" * 64, "gs_c_" + "0" * 64):
        with pytest.raises(AccessError, match="this key is unknown"):
            access.caller(bearer(guessed))


def test_key_of_a_tenant_that_is_gone_lets_nobody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys"
    key = added(file, key_id="a")
    ring = Keyring(access_of(file))
    assert ring.access.caller(bearer(key)).tenant == "acme"
    ring.configure(AccessConfig(keys_file=str(file)))
    with pytest.raises(AccessError):
        ring.access.caller(bearer(key))
    assert "its tenant acme is not configured" in caplog.text and key not in caplog.text


def test_wrong_file_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text('{"id": "a"}\n')
    with pytest.raises(ConfigError, match="keys:1: is no key"):
        Keyring(access_of(file))


def test_empty_file_lets_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("")
    access = Keyring(AccessConfig(keys_file=str(file))).access
    assert not access.is_open
    with pytest.raises(AccessError):
        access.caller(None)


def test_stored_key_prints_no_more_than_it_holds() -> None:
    key, stored = new_key(tenant="acme")
    assert isinstance(stored, StoredKey) and key not in repr(stored)


async def test_wrong_keys_are_counted_and_logged_without_flooding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "keys"
    key = added(file, key_id="a")
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), access=access_of(file)), providers=providers) as server:
        wrong = "gs_a_" + "7d" * 32
        for _ in range(20):
            assert (await told(server, wrong)).startswith("UNAUTHENTICATED")
        assert await told(server, key) == "OK"
        assert server.app.metrics is not None
        assert 'gearshift_refused_keys_total{cause="unknown"} 20.0' in server.app.metrics.exposition().decode()
    lines = [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]
    assert lines == ["a call from 127.0.0.1 was refused: its key is unknown"]
    assert wrong[-30:] not in caplog.text
