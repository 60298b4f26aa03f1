"""What a client is dialled with: small functions that return a value.

Rules: an option is a function from settings to settings; later options win. A key is never printed. Nothing is
connected, and no file but those named is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

DEFAULT_TIMEOUT: Final = 300.0
"""Seconds that a call may take when nobody says."""

MAX_MESSAGE_BYTES: Final = 64 << 20
"""The largest message, both ways: three images of the 20 MiB that the contract allows, and room."""

_DEFAULT_CHANNEL_OPTIONS: Final[dict[str, Any]] = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_metadata_size": 64 << 10,
    # Without the probe an unread stream stops its server after 0.2 to 2.7 MB, with it after 1.8 to 8 MB.
    "grpc.http2.bdp_probe": 0,
}
_SERVICES: Final = ("gearshift.v1.RouterService", "gearshift.v1.OpsService")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """How a server is believed, and how the client shows itself; None leaves it to the system's roots."""

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    server_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How calls that ended as UNAVAILABLE are tried again, before anything was received."""

    attempts: int
    initial_backoff: float
    max_backoff: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the options add up to."""

    tls: Tls | None = None
    api_key: str = field(default="", repr=False)
    plaintext_key: bool = False
    retry: Retry | None = None
    default_timeout: float = DEFAULT_TIMEOUT
    round_robin: bool = False
    channel_options: tuple[tuple[str, Any], ...] = ()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Give what every call sends."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()

    def channel_arguments(self) -> list[tuple[str, Any]]:
        """Give what grpc is told about the channel; the caller's own options win."""
        arguments = dict(_DEFAULT_CHANNEL_OPTIONS)
        if service_config := self._service_config():
            arguments["grpc.service_config"] = json.dumps(service_config)
        if self.tls is not None and self.tls.server_name:
            arguments["grpc.ssl_target_name_override"] = self.tls.server_name
        arguments.update(self.channel_options)
        return list(arguments.items())

    def _service_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {}
        if self.round_robin:
            config["loadBalancingConfig"] = [{"round_robin": {}}]
        if self.retry is not None:
            policy = {
                "maxAttempts": self.retry.attempts,
                "initialBackoff": f"{self.retry.initial_backoff:g}s",
                "maxBackoff": f"{self.retry.max_backoff:g}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            }
            config["methodConfig"] = [{"name": [{"service": name} for name in _SERVICES], "retryPolicy": policy}]
            # A server in trouble is not asked again by everybody: retries stop when half of the calls fail.
            config["retryThrottling"] = {"maxTokens": 10, "tokenRatio": 0.1}
        return config


Option = Callable[[Settings], Settings]


def settings_from(target: str, options: tuple[Option, ...]) -> Settings:
    """Add the options up for a target.

    Raises:
        ValueError: the target is empty, or a key would cross a network in the clear.

    """
    if not target:
        raise ValueError("a target is needed, such as '127.0.0.1:50051'")
    settings = Settings()
    for option in options:
        settings = option(settings)
    exposed = settings.api_key and settings.tls is None and not settings.plaintext_key
    if exposed and not _stays_here(target):
        raise ValueError(
            f"the API key would go to {target!r} in the clear: use with_tls(), or with_api_key(key, plaintext=True)"
        )
    return settings


def _stays_here(target: str) -> bool:
    """Whether a target names this machine only; one that cannot be read does not."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    addresses = target.removeprefix("dns:").lstrip("/").removeprefix("ipv4:").removeprefix("ipv6:").split(",")
    for address in addresses:
        host = address.rpartition(":")[0] if ":" in address else address
        octets = host.split(".")
        is_ipv4_loopback = len(octets) == 4 and octets[0] == "127" and all(octet.isdigit() for octet in octets)
        if not is_ipv4_loopback and host not in ("localhost", "[::1]"):
            return False
    return True


def with_tls(
    *,
    ca: str | os.PathLike[str] | bytes | None = None,
    certificate: str | os.PathLike[str] | bytes | None = None,
    key: str | os.PathLike[str] | bytes | None = None,
    server_name: str = "",
) -> Option:
    """Speak TLS.

    Args:
        ca: the roots to believe, a path or PEM bytes; None takes gRPC's own.
        certificate: the client's certificate chain for mTLS, a path or PEM bytes; needs key.
        key: the client's private key, a path or PEM bytes.
        server_name: the name to expect in the server's certificate, when it is not the target's.

    Raises:
        OSError: a file cannot be read.
        ValueError: of certificate and key there is only one.

    """
    if (certificate is None) != (key is None):
        raise ValueError("certificate and key come together")
    tls = Tls(ca=_pem(ca), certificate=_pem(certificate), key=_pem(key), server_name=server_name)
    return lambda settings: replace(settings, tls=tls)


def with_api_key(key: str, *, plaintext: bool = False) -> Option:
    """Show a key with every call (`authorization: Bearer …`).

    Args:
        key: as `gearshift` issued it; empty sends none.
        plaintext: allow it without TLS beyond loopback, where anyone on the way can read it.

    """
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("an API key is printable ASCII without spaces")
    return lambda settings: replace(settings, api_key=key, plaintext_key=plaintext)


def with_retry(*, attempts: int = 3, initial_backoff: float = 0.2, max_backoff: float = 5.0) -> Option:
    """Try calls that ended as UNAVAILABLE again, with jitter, until something was received; the server's wait wins.

    Args:
        attempts: calls in all, 2 to 5 (gRPC allows no more).
        initial_backoff: seconds, above 0.
        max_backoff: seconds, at least initial_backoff.

    """
    if not 2 <= attempts <= 5:
        raise ValueError("attempts is 2 to 5")
    if not 0 < initial_backoff <= max_backoff:
        raise ValueError("initial_backoff is above 0 and at most max_backoff")
    retry = Retry(attempts=attempts, initial_backoff=initial_backoff, max_backoff=max_backoff)
    return lambda settings: replace(settings, retry=retry)


def with_default_timeout(timeout: float) -> Option:
    """Give calls whose context has no deadline this many seconds, above 0; without it they have 300."""
    if not timeout > 0:
        raise ValueError("a timeout is above 0")
    return lambda settings: replace(settings, default_timeout=timeout)


def with_keepalive(*, interval: float = 60.0, timeout: float = 20.0) -> Option:
    """Ask whether the server is still there.

    Args:
        interval: seconds of silence before asking, at least 30: servers close connections that ask more often.
        timeout: seconds to wait for the answer, above 0.

    """
    if interval < 30 or timeout <= 0:
        raise ValueError("interval is at least 30 seconds, timeout above 0")
    return with_channel_options(
        ("grpc.keepalive_time_ms", round(interval * 1000)),
        ("grpc.keepalive_timeout_ms", round(timeout * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
    )


def with_channel_options(*options: tuple[str, Any]) -> Option:
    """Set gRPC's own channel options; they win over what the other options say."""
    return lambda settings: replace(settings, channel_options=(*settings.channel_options, *options))


def with_round_robin() -> Option:
    """Spread calls over all addresses of the target; without it they stay on one."""
    return lambda settings: replace(settings, round_robin=True)


def _pem(source: str | os.PathLike[str] | bytes | None) -> bytes | None:
    return source if source is None or isinstance(source, bytes) else Path(source).read_bytes()
