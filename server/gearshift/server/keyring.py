"""The keys in force, kept up to date with the file of keys.

Rules: a file that cannot be read changes nothing: the last good keys stay, and operators are told. So does one that has
vanished while it was followed, since editors and backups replace files in two steps; to let nobody in, revoke the keys.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from gearshift.core.config.model import AccessConfig
from gearshift.core.errors import ConfigError
from gearshift.server.access import Access
from gearshift.server.keyfile import StoredKey, read_keys

_log = logging.getLogger(__name__)


class Keyring:
    """The configured keys and those of their file.

    Raises:
        ConfigError: the file of keys cannot be read.
    """

    def __init__(self, config: AccessConfig) -> None:
        self._config = config
        self._stored: tuple[StoredKey, ...] = read_keys(config.keys_file) if config.keys_file else ()
        self.problem = ""
        """Why the file could not be read the last time; empty when it could."""
        self.access = self._made()

    @property
    def files(self) -> tuple[str, ...]:
        """What is to be followed."""
        return (self._config.keys_file,) if self._config.keys_file else ()

    def warnings(self) -> list[str]:
        """Say what an operator should know."""
        if self.problem:
            return [f"the keys of before stay in force: {self.problem}"]
        if not self.access.is_open and not len(self.access):
            return ["there is no key, so nobody can call: make one with `gearshift keys create`"]
        return []

    def configure(self, config: AccessConfig) -> None:
        """Put another configuration in force.

        Raises:
            ConfigError: its file of keys cannot be read; nothing has changed.
        """
        stored = self._stored
        if config.keys_file != self._config.keys_file:
            stored = read_keys(config.keys_file) if config.keys_file else ()
        self._config, self._stored = config, stored
        self.access = self._made()

    def reread(self) -> bool:
        """Read the file again; tell whether its keys have changed.

        Raises:
            ConfigError: it cannot be read; the keys of before stay in force.
        """
        path = self._config.keys_file
        if not path:
            return False
        try:
            if self._stored and not Path(path).exists():
                raise ConfigError([f"{path}: the file of keys has vanished"])
            stored = read_keys(path)
        except ConfigError as error:
            self.problem = error.message
            raise
        self.problem = ""
        if stored == self._stored:
            return False
        self._stored = stored
        self.access = self._made()
        return True

    def follow(self) -> None:
        """Read the file again, since it has changed; a wrong one is told and changes nothing."""
        try:
            if self.reread():
                _log.info("the keys were read again: %d may call", len(self.access))
        except ConfigError as error:
            _log.error("the keys of before stay in force: %s", error)

    def _made(self) -> Access:
        now = time.time()
        alive = [key.config() for key in self._stored if key.state(now) != "revoked"]
        revoked = {key.id: key.sha256 for key in self._stored if key.revoked}
        return Access(self._config, alive, revoked)
