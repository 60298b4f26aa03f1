"""TLS of the HTTP port: the gRPC port's certificates, replaced at the same moment; never more open than that port."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp
import grpc
import pytest

from gearshift.core.config.model import ServerConfig, TlsConfig
from gearshift.v1 import router_pb2
from tests.support.blueprints import stage
from tests.support.grpc_web import browser_at
from tests.support.loopback_tls import loopback_pem, own_authority
from tests.support.running_server import from_yaml, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says
from tests.support.served_config import one_openai

ASKED = router_pb2.RouteRequest(call=plain_call())
NOWHERE = "http://127.0.0.1:9"


def files_in(folder: Path, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    certificate.write_bytes(pair[0])
    key.write_bytes(pair[1])
    return certificate, key


def trusting(certificate: bytes, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificate.decode())
    if own is not None:
        context.load_cert_chain(*own)
    return context


async def answered(port: int, context: ssl.SSLContext) -> str:
    """Call over a new connection."""
    async with browser_at(port, scheme="https", ssl=context) as browser:
        answer = await browser.call("RouterService/Route", ASKED)
        return router_pb2.RouteResponse.FromString(answer.messages[0]).answer.text


async def test_https_shows_the_certificate_in_force_at_each_connection(tmp_path: Path) -> None:
    first, second = own_authority("first"), own_authority("second")
    certificate, key = files_in(tmp_path, first)
    tls = TlsConfig(certificate=str(certificate), key=str(key))
    config = of_stages(stage(0), server=ServerConfig(port=0, http_port=0, grace_s=1, tls=tls, http_tls=True))
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        port = server.app.http_port
        assert await answered(port, trusting(first[0])) == "hi"
        async with browser_at(port, scheme="https", ssl=trusting(first[0])) as browser:
            await browser.call("RouterService/Route", ASKED)
            files_in(tmp_path, second)
            assert server.app.reread()
            assert await answered(port, trusting(second[0])) == "hi"
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await answered(port, trusting(first[0]))
            # A connection that runs keeps its own.
            assert (await browser.call("RouterService/Route", ASKED)).failed.code is grpc.StatusCode.OK
        async with browser_at(port) as plain:
            with pytest.raises(aiohttp.ClientError):
                await plain.call("RouterService/Route", ASKED)


async def test_client_certificates_are_asked_for_over_https_too(tmp_path: Path) -> None:
    own = own_authority("service and client")
    pair = files_in(tmp_path, own)
    tls = TlsConfig(certificate=str(pair[0]), key=str(pair[1]), client_ca=str(pair[0]))
    config = of_stages(stage(0), server=ServerConfig(port=0, http_port=0, grace_s=1, tls=tls, http_tls=True))
    async with running_server(config, providers={"p0": ScriptedProvider([says("hi")])}) as server:
        port = server.app.http_port
        assert await answered(port, trusting(own[0], pair)) == "hi"
        (stranger := tmp_path / "stranger").mkdir()
        for context in (trusting(own[0]), trusting(own[0], files_in(stranger, own_authority("stranger")))):
            with pytest.raises(aiohttp.ClientError):
                await answered(port, context)
        # Authorities are replaced as well.
        other = own_authority("another client")
        (folder := tmp_path / "other").mkdir()
        files_in(tmp_path, other)
        assert server.app.reread()
        assert await answered(port, trusting(other[0], files_in(folder, other))) == "hi"


async def test_plain_http_takes_no_calls_where_grpc_asks_for_client_certificates(tmp_path: Path) -> None:
    pair = files_in(tmp_path, own_authority("own"))
    tls = TlsConfig(certificate=str(pair[0]), key=str(pair[1]), client_ca=str(pair[0]))
    config = of_stages(stage(0), server=ServerConfig(port=0, http_port=0, grace_s=1, tls=tls))
    async with running_server(config, providers={}) as server, browser_at(server.app.http_port) as browser:
        assert (await browser.call("RouterService/Route", ASKED)).status == 404
        async with browser.session.get(f"{browser.base}/healthz") as response:
            assert response.status == 200


async def test_calls_over_http_can_be_switched_off() -> None:
    config = from_yaml(one_openai(NOWHERE, more="server: {http_calls: false}"))
    async with running_server(config) as server, browser_at(server.app.http_port) as browser:
        assert (await browser.call("RouterService/Route", ASKED)).status == 404


@pytest.mark.parametrize(
    ("more", "told"),
    [
        pytest.param("", "", id="no TLS at all"),
        pytest.param("tls: {TLS}", "", id="on loopback"),
        pytest.param("tls: {TLS}, http_host: 0.0.0.0", "without TLS: prompts and keys can be read", id="beyond it"),
        pytest.param("tls: {TLS}, http_host: 0.0.0.0, http_tls: true", "", id="beyond it with TLS"),
        pytest.param("tls: {TLS}, http_host: 0.0.0.0, http_calls: false", "", id="beyond it without calls"),
        pytest.param("tls: {TLS}, http_host: 0.0.0.0, http: false", "", id="no HTTP"),
        pytest.param("tls: {TLS, client_ca: CA}", "takes no calls, since server.tls asks", id="client certificates"),
        pytest.param("tls: {TLS, client_ca: CA}, http_tls: true", "", id="client certificates for both"),
    ],
)
def test_operators_are_told_of_an_http_port_that_is_more_open(more: str, told: str) -> None:
    pem = loopback_pem()
    server = more.replace("TLS}", f"certificate: '{pem}', key: '{pem}'}}").replace(
        "TLS,", f"certificate: '{pem}', key: '{pem}',"
    )
    made = from_yaml(one_openai(NOWHERE, more=f"server: {{{server.replace('CA', str(pem))}}}"))
    warnings = [each for each in made.warnings if "TLS" in each or "takes no calls" in each]
    assert [told in each for each in warnings] == ([True] if told else [])
