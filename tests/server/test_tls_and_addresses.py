"""Where the service listens: TLS, IPv6, and certificates that are none."""

from __future__ import annotations

import socket
from pathlib import Path

import grpc
import grpc.aio
import pytest

from gearshift.core.config.model import ServerConfig, TlsConfig
from gearshift.core.errors import ConfigError
from gearshift.v1 import router_pb2, router_pb2_grpc
from tests.support.blueprints import stage
from tests.support.loopback_tls import loopback_pem
from tests.support.running_server import of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says

PEM = loopback_pem()
"""Key and certificate of 127.0.0.1, signed by itself."""


def with_tls(certificate: Path | str, key: Path | str, client_ca: str = "") -> ServerConfig:
    return ServerConfig(
        port=0, http=False, tls=TlsConfig(certificate=str(certificate), key=str(key), client_ca=client_ca)
    )


async def asked(channel: grpc.aio.Channel) -> str:
    stub = router_pb2_grpc.RouterServiceStub(channel)
    return (await stub.Route(router_pb2.RouteRequest(call=plain_call()), timeout=5)).answer.text


async def test_tls_is_spoken_and_plain_text_refused() -> None:
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), server=with_tls(PEM, PEM)), providers=providers) as server:
        credentials = grpc.ssl_channel_credentials(PEM.read_bytes())
        async with grpc.aio.secure_channel(server.address, credentials) as channel:
            assert await asked(channel) == "hi"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.route(plain_call(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_mutual_tls_asks_for_a_certificate() -> None:
    pem = PEM.read_bytes()
    providers = {"p0": ScriptedProvider([says("hi")])}
    config = of_stages(stage(0), server=with_tls(PEM, PEM, str(PEM)))
    async with running_server(config, providers=providers) as server:
        known = grpc.ssl_channel_credentials(pem, private_key=pem, certificate_chain=pem)
        async with grpc.aio.secure_channel(server.address, known) as channel:
            assert await asked(channel) == "hi"
        async with grpc.aio.secure_channel(server.address, grpc.ssl_channel_credentials(pem)) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asked(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("broken", ["missing", "no PEM", "no key"])
async def test_certificate_that_is_none_is_told_as_such(tmp_path: Path, broken: str) -> None:
    other = tmp_path / "other.pem"
    if broken == "no PEM":
        other.write_text("nothing of the kind")
    elif broken == "no key":
        other.write_text(PEM.read_text().partition("-----BEGIN CERTIFICATE")[2])
    config = of_stages(stage(0), server=with_tls(PEM, other))
    with pytest.raises(ConfigError, match=r"server\.tls: ") as caught:
        async with running_server(config, providers={}):
            pass
    told = "No such file" if broken == "missing" else "must be PEM files, and the key the certificate's"
    assert told in caught.value.message


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_ipv6_is_an_address_like_any_other() -> None:
    providers = {"p0": ScriptedProvider([says("hi")])}
    config = of_stages(stage(0), server=ServerConfig(host="::1", port=0, http=False))
    async with (
        running_server(config, providers=providers) as server,
        grpc.aio.insecure_channel(f"[::1]:{server.app.port}") as channel,
    ):
        assert await asked(channel) == "hi"


async def test_address_of_another_machine_is_told_as_such() -> None:
    config = of_stages(stage(0), server=ServerConfig(host="192.0.2.1", port=0, http=False))
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:0: it is in use or not this machine's"):
        async with running_server(config, providers={}):
            pass
