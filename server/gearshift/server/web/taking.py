"""What the HTTP port takes, by the configuration alone: the supervisor says it too, and loads neither gRPC nor the port."""

from __future__ import annotations

from gearshift.core.config.model import ServerConfig


def takes_calls(config: ServerConfig) -> bool:
    """Tell whether the HTTP port serves more than metrics and health."""
    asks_for_certificates = config.tls is not None and bool(config.tls.client_ca)
    return config.http_calls and (config.http_tls or not asks_for_certificates)
