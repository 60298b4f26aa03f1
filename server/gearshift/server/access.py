"""Who calls: keys, tenants, roles (design 13).

Rules: a key is `gs_<id>_<secret>`, its secret hexadecimal (so without `_`); only the SHA-256 of the whole is configured, and compared in constant time. Without any
configured key everybody is the tenant `default` with every role. No key is ever logged.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gearshift.core.config.model import AccessConfig, KeyConfig
from gearshift.core.errors import AccessError, ForbiddenError

DEFAULT_TENANT = "default"
_METADATA_KEY = "authorization"
_SCHEME = "bearer "


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, once the key was checked."""

    tenant: str
    ops: bool


OPEN = Caller(tenant=DEFAULT_TENANT, ops=True)


class Access:
    """The configured keys."""

    def __init__(self, config: AccessConfig) -> None:
        self._keys: Mapping[str, KeyConfig] = {key.id: key for key in config.keys}

    @property
    def is_open(self) -> bool:
        """Whether no keys are configured, so that everybody may call."""
        return not self._keys

    def caller(self, metadata: Iterable[tuple[str, str | bytes]] | None) -> Caller:
        """Tell who calls by the call's metadata.

        Raises:
            AccessError: the key is missing or unknown.
        """
        if not self._keys:
            return OPEN
        for name, value in metadata or ():
            if name == _METADATA_KEY and isinstance(value, str) and value.lower().startswith(_SCHEME):
                return self._checked(value[len(_SCHEME) :].strip())
        raise AccessError("this service needs a key: send the metadata `authorization: Bearer <key>`")

    def _checked(self, key: str) -> Caller:
        _, _, rest = key.partition("_")
        known = self._keys.get(rest.rpartition("_")[0])
        digest = hashlib.sha256(key.encode()).hexdigest()
        if known is None or not hmac.compare_digest(digest, known.sha256):
            raise AccessError("this key is unknown")
        return Caller(tenant=known.tenant, ops=known.role == "ops")


def require_ops(caller: Caller) -> None:
    """Check that the caller may see and steer the service.

    Raises:
        ForbiddenError: its key has not the role `ops`.
    """
    if not caller.ops:
        raise ForbiddenError("this needs a key with the role ops")
