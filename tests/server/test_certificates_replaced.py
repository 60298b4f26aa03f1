"""Certificates that are replaced under a running service."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import grpc
import grpc.aio
import pytest
from anyio import to_thread
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gearshift.core.config.model import ServerConfig, TlsConfig
from gearshift.server.certificates import Certificates, expiry_of_pem
from gearshift.v1 import router_pb2, router_pb2_grpc
from tests.support.blueprints import stage
from tests.support.changed import changed
from tests.support.running_server import BOUND_S, of_stages, plain_call, running_server
from tests.support.scripted_provider import ScriptedProvider, says

Made = tuple[bytes, bytes]
"""Certificate and key, PEM."""


def made(name: str, *, days: float = 30, begins: int = -1, is_rsa: bool = False) -> Made:
    """Make a certificate for 127.0.0.1 that is its own authority."""
    key = rsa.generate_private_key(65537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=begins))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def put(folder: Path, pair: Made) -> None:
    (folder / "tls.crt").write_bytes(pair[0])
    (folder / "tls.key").write_bytes(pair[1])


def server_of(folder: Path, client_ca: str = "") -> ServerConfig:
    tls = TlsConfig(certificate=str(folder / "tls.crt"), key=str(folder / "tls.key"), client_ca=client_ca)
    return ServerConfig(port=0, http=False, tls=tls, grace_s=5)


async def shown(port: int) -> bytes:
    """Give the certificate that a new connection is shown, DER."""

    def look() -> bytes:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=BOUND_S) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            return wrapped.getpeercert(binary_form=True) or b""

    return await to_thread.run_sync(look)


def der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


async def asked(address: str, roots: bytes, client: Made | None = None) -> str:
    """Call once on a connection of its own; give the answer or the code."""
    pair: Sequence[bytes | None] = (None, None) if client is None else client
    credentials = grpc.ssl_channel_credentials(roots, private_key=pair[1], certificate_chain=pair[0])
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        stub = router_pb2_grpc.RouterServiceStub(channel)
        try:
            return (await stub.Route(router_pb2.RouteRequest(call=plain_call()), timeout=BOUND_S)).answer.text
        except grpc.aio.AioRpcError as error:
            return error.code().name


async def test_new_connections_get_the_new_certificate_and_running_streams_go_on(tmp_path: Path) -> None:
    old, new = made("old"), made("new")
    put(tmp_path, old)
    gate = anyio.Event()
    provider = ScriptedProvider([changed(says("still", " here"), waits_for=gate), says("hi")])
    async with running_server(of_stages(stage(0), server=server_of(tmp_path)), providers={"p0": provider}) as server:
        credentials = grpc.ssl_channel_credentials(old[0])
        async with grpc.aio.secure_channel(server.address, credentials) as channel:
            stub = router_pb2_grpc.RouterServiceStub(channel)
            stream = stub.StreamRoute(router_pb2.StreamRouteRequest(call=plain_call()), timeout=BOUND_S)
            await stream.read()
            assert await shown(server.app.port) == der(old[0])
            put(tmp_path, new)
            with anyio.fail_after(BOUND_S):
                while await shown(server.app.port) != der(new[0]):
                    await anyio.sleep(0.05)
            gate.set()
            kinds: list[str | None] = []
            while isinstance(message := await stream.read(), router_pb2.StreamRouteResponse):
                kinds += [event.WhichOneof("kind") for event in message.events]
            assert kinds[-1] == "completed"
        assert await asked(server.address, new[0]) == "hi"
        assert await asked(server.address, old[0]) == "UNAVAILABLE"
        assert server.app.certificates is not None and server.app.certificates.replaced == 1


async def test_no_call_fails_while_certificates_are_replaced_under_load(tmp_path: Path) -> None:
    pairs = [made(f"certificate {number}") for number in range(4)]
    roots = b"".join(certificate for certificate, _ in pairs)
    put(tmp_path, pairs[0])
    provider = ScriptedProvider([says("hi")])
    answered: list[str] = []
    async with (
        running_server(of_stages(stage(0), server=server_of(tmp_path)), providers={"p0": provider}) as server,
        anyio.create_task_group() as tasks,
    ):

        async def ask_again_and_again() -> None:
            while True:
                answered.append(await asked(server.address, roots))

        for _ in range(4):
            tasks.start_soon(ask_again_and_again)
        for pair in pairs[1:]:
            put(tmp_path, pair)
            before = len(answered)
            with anyio.fail_after(BOUND_S):
                while await shown(server.app.port) != der(pair[0]) or len(answered) < before + 20:
                    await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()
    assert set(answered) == {"hi"}


async def test_certificate_without_its_key_changes_nothing(tmp_path: Path) -> None:
    old, new = made("old"), made("new")
    put(tmp_path, old)
    providers = {"p0": ScriptedProvider([says("hi")])}
    async with running_server(of_stages(stage(0), server=server_of(tmp_path)), providers=providers) as server:
        certificates = server.app.certificates
        assert certificates is not None
        (tmp_path / "tls.crt").write_bytes(new[0])
        certificates.follow()
        assert await asked(server.address, old[0]) == "hi"
        assert any("the certificate of before stays in force" in each for each in server.app.status().warnings)
        (tmp_path / "tls.key").write_bytes(new[1])
        certificates.follow()
        assert await asked(server.address, new[0]) == "hi"
        assert server.app.status().warnings == []


async def test_client_authorities_are_replaced_too(tmp_path: Path) -> None:
    own, first, second = made("server"), made("first"), made("second")
    put(tmp_path, own)
    authority = tmp_path / "clients.pem"
    authority.write_bytes(first[0])
    providers = {"p0": ScriptedProvider([says("hi")])}
    config = of_stages(stage(0), server=server_of(tmp_path, str(authority)))
    async with running_server(config, providers=providers) as server:
        assert await asked(server.address, own[0], first) == "hi"
        assert await asked(server.address, own[0], second) == "UNAVAILABLE"
        assert await asked(server.address, own[0]) == "UNAVAILABLE"
        authority.write_bytes(second[0])
        assert server.app.certificates is not None
        server.app.certificates.follow()
        assert await asked(server.address, own[0], second) == "hi"
        assert await asked(server.address, own[0], first) == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("days", "told"),
    [
        pytest.param(30, "", id="a month left"),
        pytest.param(3, "runs out in 3.0 days", id="three days left"),
        pytest.param(-0.5, "ran out at", id="run out"),
    ],
)
async def test_operators_are_told_before_the_certificate_runs_out(tmp_path: Path, days: float, told: str) -> None:
    put(tmp_path, made("soon", days=days, begins=-40))
    async with running_server(of_stages(stage(0), server=server_of(tmp_path)), providers={}) as server:
        warnings = server.app.status().warnings
        assert [each for each in warnings if told in each] == list(warnings) and len(warnings) == bool(told)
        assert server.app.metrics is not None
        text = server.app.metrics.exposition().decode()
        left = float(text.partition("\ngearshift_certificate_seconds_left ")[2].partition("\n")[0])
        assert left == pytest.approx(days * 86_400, abs=30)


@pytest.mark.parametrize("is_rsa", [False, True])
@pytest.mark.parametrize("days", [1, 400, 9_000, 20_000], ids=["a day", "a year", "up to 2049", "beyond 2049"])
def test_expiry_is_read_as_the_library_reads_it(days: int, is_rsa: bool) -> None:
    pem, _ = made("any", days=days, is_rsa=is_rsa)
    expected = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    assert expiry_of_pem(pem) == expected
    sooner, _ = made("sooner", days=0.5)
    assert expiry_of_pem(pem + sooner) == pytest.approx(time.time() + 43_200, abs=30)


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_broken_certificate_is_none(cut: int) -> None:
    pem, _ = made("any")
    broken = ssl.DER_cert_to_PEM_cert(der(pem)[:cut]).encode()
    with pytest.raises(ValueError, match="certificate"):
        expiry_of_pem(broken)


def test_handshakes_are_told_of_a_certificate_once(tmp_path: Path) -> None:
    put(tmp_path, made("first"))
    held = Certificates(TlsConfig(certificate=str(tmp_path / "tls.crt"), key=str(tmp_path / "tls.key")))
    changed_since = held.changes()
    assert changed_since() is None
    put(tmp_path, made("second"))
    assert held.reread()
    assert changed_since() is not None
    assert changed_since() is None
