"""The file of keys: what `gearshift keys` writes and running servers follow.

Rules: one JSON object a line, digests only; `#` begins a line for people. It is replaced whole and at once (written beside,
synced, renamed), readable to its owner only, and by one writer at a time. A key that was revoked keeps its line, so that
one can see later who could call until when.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gearshift.core.config.model import KeyConfig, Name, expiry_of
from gearshift.core.errors import ConfigError

_HEAD = "# Keys of Gearshift, one a line; written by `gearshift keys`. Digests only: no key stands here.\n"
_SECRET_BYTES = 32
_ID_BYTES = 5
_LONGEST_NOTE = 200


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line of the file; times are UTC, such as 2027-01-31T12:00:00Z."""

    id: Name
    sha256: str
    tenant: Name
    role: str = "caller"
    created: str = ""
    expires: str = ""
    revoked: str = ""
    note: str = ""

    def config(self) -> KeyConfig:
        """Give it as the configuration has keys."""
        return KeyConfig(
            id=self.id, sha256=self.sha256, tenant=self.tenant, role=self.role, expires=self.expires, note=self.note
        )

    def state(self, now: float) -> str:
        """Tell whether it is `active`, `expired` or `revoked`; `now` in seconds since the epoch."""
        if self.revoked:
            return "revoked"
        expires_at = expiry_of(self.expires)
        return "active" if expires_at is not None and expires_at > now else "expired"


def new_key(
    *, tenant: str, role: str = "caller", key_id: str = "", expires: str = "", note: str = ""
) -> tuple[str, StoredKey]:
    """Make a key; give it whole, which nobody can do again, and what is kept of it.

    Raises:
        ConfigError: a value cannot stand in the file.
    """
    key_id = key_id or secrets.token_hex(_ID_BYTES)
    secret = f"gs_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    stored = StoredKey(
        id=key_id,
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        tenant=tenant,
        role=role,
        created=utc(time.time()),
        expires=expires,
        note=note,
    )
    problem = _problem(stored)
    if problem:
        raise ConfigError([problem])
    return secret, stored


def read_keys(path: str) -> tuple[StoredKey, ...]:
    """Read the file; one that is not there holds no key.

    Raises:
        ConfigError: it cannot be read; every wrong line by its number.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path}: the file of keys cannot be read: {why}"]) from error
    keys: dict[str, StoredKey] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            key = msgspec.json.decode(line, type=StoredKey)
            problem = _problem(key) or (f"key `{key.id}` stands twice" if key.id in keys else "")
        except msgspec.MsgspecError as error:
            problems.append(f"{path}:{number}: is no key: {error}")
            continue
        if problem:
            problems.append(f"{path}:{number}: {problem}")
        else:
            keys[key.id] = key
    if problems:
        raise ConfigError(problems)
    return tuple(keys.values())


@contextlib.contextmanager
def changing(path: str) -> Generator[list[StoredKey]]:
    """Give the file's keys to be changed in place; leaving the block replaces the file, unless it raises.

    Raises:
        ConfigError: the file cannot be read or written.
    """
    try:
        with Path(f"{path}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = list(read_keys(path))
            before = list(keys)
            yield keys
            if keys != before:
                _replace(path, keys)
    except OSError as error:
        raise ConfigError([f"{path}: the file of keys cannot be written: {error.strerror}"]) from error


def utc(at: float) -> str:
    """Write a time, seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _replace(path: str, keys: Sequence[StoredKey]) -> None:
    """Write the file anew, for the same owner."""
    target = Path(path).resolve()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_HEAD.encode())
            for key in keys:
                file.write(msgspec.json.encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError, PermissionError):
                # Made by root for a service that is not: it must still be able to read it.
                owner = target.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _problem(key: StoredKey) -> str:
    if len(key.sha256) != 64 or not set(key.sha256) <= set("0123456789abcdef"):
        return f"key `{key.id}`: sha256 must be 64 hexadecimal digits in lower case"
    if key.role not in ("caller", "ops"):
        return f"key `{key.id}`: role must be `caller` or `ops`, not `{key.role}`"
    if expiry_of(key.expires) is None:
        return f"key `{key.id}`: expires must be a time such as 2027-01-31 or 2027-01-31T12:00:00Z, not `{key.expires}`"
    if len(key.note) > _LONGEST_NOTE or any(character < " " for character in key.note):
        return f"key `{key.id}`: its note must be one line of at most {_LONGEST_NOTE} characters"
    return _name_problem("id", key.id) or _name_problem("tenant", key.tenant)


def _name_problem(field: str, name: str) -> str:
    try:
        msgspec.convert(name, Name)
    except msgspec.ValidationError:
        return f"{field} `{name}` is not a name: letters, digits and . _ : / - (a letter or digit first, at most 128)"
    return ""
