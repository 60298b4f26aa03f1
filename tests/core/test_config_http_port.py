"""What is said of the HTTP port when a configuration is read: origins and TLS."""

from __future__ import annotations

import pytest

from gearshift.core.config.check import is_origin
from gearshift.core.errors import ConfigError
from tests.support.running_server import from_yaml
from tests.support.served_config import one_openai


def read(more: str) -> None:
    from_yaml(one_openai("http://127.0.0.1:9", more=f"server: {{{more}}}"))


@pytest.mark.parametrize(
    ("origin", "is_one"),
    [
        ("https://chat.example.com", True),
        ("http://localhost:3000", True),
        ("http://[::1]:3000", True),
        ("http://10.0.0.7", True),
        ("chrome-extension://abcdefghijklmnop", True),
        ("*", False),
        ("null", False),
        ("chat.example.com", False),
        ("https://chat.example.com/", False),
        ("https://chat.example.com/page", False),
        ("https://*.example.com", False),
        ("https://Chat.example.com", False),
        ("https://me@chat.example.com", False),
        ("https://chat.example.com:", False),
        ("https://", False),
        ("https://chat.example.com\n", False),
        ("", False),
    ],
)
def test_origins_are_written_as_browsers_write_them(origin: str, is_one: bool) -> None:
    assert is_origin(origin) is is_one


def test_wrong_origin_is_refused_with_its_place() -> None:
    read("http_allowed_origins: ['https://chat.example.com', 'http://localhost:3000']")
    with pytest.raises(ConfigError, match=r"server.http_allowed_origins\[1\]: `\*` is no origin: .*chat.example.com"):
        read("http_allowed_origins: ['https://chat.example.com', '*']")


def test_tls_of_the_http_port_needs_certificates() -> None:
    with pytest.raises(ConfigError, match="server.http_tls: needs server.tls"):
        read("http_tls: true")


def test_misspelt_field_is_named() -> None:
    with pytest.raises(ConfigError, match="http_allowed_origins"):
        read("http_allowed_origin: []")
