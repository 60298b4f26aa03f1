"""Which addresses leave this machine, and which base URLs are fit to be called.

Rules: nothing is looked up; a name other than `localhost` counts as another machine.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Say whether an address stays on this machine."""
    name = host.strip("[]").lower()
    if name in ("localhost", "localhost.localdomain"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_secure(base_url: str) -> bool:
    """Say whether what is sent there cannot be read on the way: TLS, a Unix socket, or this machine."""
    parts = urlsplit(base_url)
    return parts.scheme in ("https", "unix") or is_loopback(parts.hostname or "")


def stays_here(base_url: str) -> bool:
    """Say whether a base URL is on this machine, as a Unix socket and the embedded model's empty one are."""
    parts = urlsplit(base_url)
    return parts.scheme in ("", "unix") or is_loopback(parts.hostname or "")


def url_problem(base_url: str) -> str:
    """Say what is wrong with a base URL; empty when nothing is. Never quotes it: it may hold a password."""
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme == "unix":
        return "" if parts.path.startswith("/") and not parts.netloc else "must be such as `unix:///run/model.sock`"
    if parts.scheme not in ("http", "https"):
        return "must begin with https://, http:// or unix://"
    if parts.username is not None or parts.password is not None:
        return "must not hold a user or password; put them into `headers`"
    if not parts.hostname or port == 0:
        return "has no host"
    if parts.query or parts.fragment or any(character.isspace() for character in base_url):
        return "must be scheme, host and path only"
    return ""
