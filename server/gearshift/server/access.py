"""Who calls: keys, tenants, roles (design 13).

Rules: a key is `gs_<id>_<secret>`, its secret hexadecimal (so without `_`); only the SHA-256 of the whole is known here, and
compared in constant time. Where neither keys nor a file of keys is configured everybody is the tenant `default` with
every role; an empty or missing file lets nobody in. No key is ever logged.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gearshift.core.config.model import AccessConfig, KeyConfig, expiry_of, has_keys
from gearshift.core.errors import AccessError, ForbiddenError

DEFAULT_TENANT = "default"
_METADATA_KEY = "authorization"
_SCHEME = "bearer "

_log = logging.getLogger(__name__)

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, once the key was checked."""

    tenant: str
    ops: bool


OPEN = Caller(tenant=DEFAULT_TENANT, ops=True)


@dataclass(frozen=True, slots=True)
class _Known:
    """A key that may call; `expires_at` is in seconds since the epoch."""

    sha256: str
    caller: Caller
    expires_at: float


class Access:
    """The keys in force.

    Args:
        config: what the configuration says.
        stored: keys of its file of keys; where both have the same id the configuration's is taken.
        revoked: ids of keys that were taken back, to tell their holders so.
    """

    def __init__(
        self, config: AccessConfig, stored: Sequence[KeyConfig] = (), revoked: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.is_open = not has_keys(config)
        """Whether no keys are configured, so that everybody may call."""
        self._revoked = revoked or {}
        self._keys: dict[str, _Known] = {}
        for key in (*stored, *config.keys):
            # A tenant that nobody configures any more has no limits: its keys must not gain by that.
            if key.tenant != DEFAULT_TENANT and key.tenant not in config.tenants:
                _log.warning("key %s is not let in: its tenant %s is not configured", key.id, key.tenant)
                continue
            expires_at = expiry_of(key.expires)
            self._keys[key.id] = _Known(
                key.sha256, Caller(tenant=key.tenant, ops=key.role == "ops"), 0.0 if expires_at is None else expires_at
            )

    def __len__(self) -> int:
        """Give how many keys are known, those that have run out among them."""
        return len(self._keys)

    def caller(self, metadata: Metadata | None) -> Caller:
        """Tell who calls by the call's metadata.

        Raises:
            AccessError: the key is missing, unknown, revoked or has run out.
        """
        if self.is_open:
            return OPEN
        for name, value in metadata or ():
            if name == _METADATA_KEY and isinstance(value, str) and value.lower().startswith(_SCHEME):
                return self._checked(value[len(_SCHEME) :].strip())
        raise AccessError("this service needs a key: send the metadata `authorization: Bearer <key>`", cause="missing")

    def _checked(self, key: str) -> Caller:
        _, _, rest = key.partition("_")
        key_id = rest.rpartition("_")[0]
        known = self._keys.get(key_id)
        digest = hashlib.sha256(key.encode()).hexdigest()
        if known is None or not hmac.compare_digest(digest, known.sha256):
            # Only who holds the key is told what has become of it.
            if hmac.compare_digest(digest, self._revoked.get(key_id, "")):
                raise AccessError("this key was revoked", cause="revoked")
            raise AccessError("this key is unknown", cause="unknown")
        if known.expires_at <= time.time():
            raise AccessError("this key has run out", cause="expired")
        return known.caller


def require_ops(caller: Caller) -> None:
    """Check that the caller may see and steer the service.

    Raises:
        ForbiddenError: its key has not the role `ops`.
    """
    if not caller.ops:
        raise ForbiddenError("this needs a key with the role ops")
