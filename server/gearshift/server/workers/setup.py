"""What the supervisor and its workers agree on besides the bus: how a configuration travels.

Rules: a configuration is read and checked once, by the supervisor, and goes to the workers as it was understood, so that
all of them, and those that are started later, serve the same one, whatever has become of the file.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.model import Config
from gearshift.core.providers.registry import own_kinds

_decoder = msgspec.msgpack.Decoder(Config)


def packed(config: Config) -> bytes:
    """Give a configuration for the bus; it holds secrets."""
    return msgspec.msgpack.encode(config)


def unpacked(body: bytes, catalogue: Catalogue) -> Blueprint:
    """Build a configuration that came over the bus. Its warnings are the supervisor's, who knows their lines.

    Raises:
        ConfigError: this process sees something wrong in it.
    """
    return replace(build(_decoder.decode(body), catalogue, own_kinds=own_kinds()), warnings=())
