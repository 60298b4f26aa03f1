"""`gearshift keys`: make, list and revoke the keys of the service.

Rules: needs no running server: it writes the file of keys, which running servers follow. A key is printed once, on standard
output, when it is made; nobody can read it again. The configuration's secrets are not needed for this and not looked at.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from gearshift.core.config.load import load_config
from gearshift.core.config.model import AccessConfig, expiry_of
from gearshift.core.errors import ConfigError, RouteError
from gearshift.server.access import DEFAULT_TENANT
from gearshift.server.cli.configured import CONFIG_VARIABLE, DEFAULT_FILE
from gearshift.server.cli.serve import failed
from gearshift.server.keyfile import StoredKey, changing, new_key, read_keys, utc

_EPILOG = """examples:
  gearshift keys create --tenant acme                       a key for an application of the tenant acme
  gearshift keys create --role ops --note "on-call"         one that may also see and manage the service
  gearshift keys create --tenant acme --expires 90d --json  one that runs out, as JSON
  export GEARSHIFT_API_KEY=$(gearshift keys create --tenant acme)
  gearshift keys list
  gearshift keys revoke 3f9c1a72be

Keys live in the file that the configuration names; servers that run see changes within seconds:
  access:
    keys_file: /etc/gearshift/keys
    tenants: {acme: {}}
It holds digests only. A key is shown once, when it is made; if it is lost, make another and revoke it.
To change a key without an outage: create the new one, give it out, then revoke the old one.
exit codes: 0 done, 1 failed, 2 the command line is wrong"""

_LASTS = re.compile(r"([1-9]\d{0,4})([dhm])")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60}


class KeysCommand:
    """Makes, lists and revokes keys."""

    name = "keys"
    help = "make, list and revoke keys"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
        create = actions.add_parser("create", help="make a key, and print it once")
        create.add_argument("--tenant", default=DEFAULT_TENANT, help="whose calls it makes (default)")
        create.add_argument("--role", choices=["caller", "ops"], default="caller", help="ops may manage the service")
        create.add_argument("--id", default="", help="its public part, shown in lists (random)")
        create.add_argument(
            "--expires", type=expires_at, default="never", help="when it runs out: 90d, 12h, 2027-01-31 (UTC) or never"
        )
        create.add_argument("--note", default="", help="what it is for, for people")
        create.add_argument(
            "--no-file", action="store_true", help="write no file: print the entry for the configuration's access.keys"
        )
        listing = actions.add_parser("list", help="which keys there are; none is shown")
        listing.add_argument("--all", action="store_true", help="revoked ones too")
        listing.add_argument("--tenant", default="", help="only this tenant's")
        revoke = actions.add_parser("revoke", help="take keys back; they stop working within seconds")
        revoke.add_argument("ids", nargs="+", metavar="ID", help="a key's public part, or the whole key")
        for action in (create, listing, revoke):
            action.add_argument(
                "--config", "-c", metavar="FILE", help=f"configuration (${CONFIG_VARIABLE}, ./{DEFAULT_FILE})"
            )
            action.add_argument("--file", metavar="FILE", default="", help="file of keys (access.keys_file)")
            action.add_argument("--json", action="store_true", help="print one JSON document")
        parser.epilog = _EPILOG

    def run(self, arguments: argparse.Namespace) -> int:
        """Do what the action says."""
        try:
            where = _where(arguments)
            match arguments.action:
                case "create":
                    return _create(where, arguments)
                case "list":
                    return _list(where, arguments)
                case _:
                    return _revoke(where, arguments)
        except RouteError as error:
            return failed("keys", error)


COMMAND = KeysCommand()


def expires_at(text: str) -> str:
    """Read when a key runs out: a length of time from now, a day, a second, or `never`."""
    if text == "never":
        return ""
    if match := _LASTS.fullmatch(text):
        return utc(time.time() + int(match[1]) * _SECONDS[match[2]])
    at = expiry_of(text)
    if at is None or not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 90d, 12h, 2027-01-31, 2027-01-31T12:00:00Z or never"
        )
    if at <= time.time():
        raise argparse.ArgumentTypeError(f"{text} has passed")
    return text


@dataclass(frozen=True, slots=True)
class _Where:
    """The file of keys, and what the configuration says; None where there is none."""

    file: str
    access: AccessConfig | None
    source: str

    def required(self) -> str:
        """Give the file.

        Raises:
            ConfigError: there is none.
        """
        if self.file:
            return self.file
        if self.access is None:
            raise ConfigError(
                [f"there is no {DEFAULT_FILE} here: give --config FILE, or --file FILE for the keys alone"]
            )
        raise ConfigError(
            [f"{self.source} names no file of keys: add `access: {{keys_file: /etc/gearshift/keys}}`, or give --file"]
        )


class _Anything(Mapping[str, str]):
    """An environment that has every variable: no secret of the configuration matters here."""

    def __getitem__(self, name: str) -> str:
        return "-"

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _where(arguments: argparse.Namespace) -> _Where:
    chosen = (
        arguments.config or os.environ.get(CONFIG_VARIABLE) or (DEFAULT_FILE if Path(DEFAULT_FILE).exists() else "")
    )
    access = load_config(chosen, _Anything()).config.access if chosen else None
    return _Where(arguments.file or (access.keys_file if access is not None else ""), access, chosen)


def _create(where: _Where, arguments: argparse.Namespace) -> int:
    tenants = list(where.access.tenants) if where.access is not None else None
    tenant: str = arguments.tenant
    if tenants is not None and tenant != DEFAULT_TENANT and tenant not in tenants:
        near = difflib.get_close_matches(tenant, tenants, 1)
        told = f"did you mean `{near[0]}`?" if near else f"known: {', '.join((DEFAULT_TENANT, *sorted(tenants)))}"
        raise ConfigError([f"{where.source} has no tenant `{tenant}`; {told}"])
    if where.access is not None and any(key.id == arguments.id for key in where.access.keys):
        raise ConfigError([f"{where.source} has a key `{arguments.id}` already: choose another --id"])
    secret, stored = new_key(
        tenant=tenant, role=arguments.role, key_id=arguments.id, expires=arguments.expires, note=arguments.note
    )
    if arguments.no_file:
        _print_entry(secret, stored, as_json=arguments.json)
        return 0
    file = where.required()
    with changing(file) as keys:
        if any(key.id == stored.id for key in keys):
            raise ConfigError([f"{file} has a key `{stored.id}` already, perhaps revoked: choose another --id"])
        keys.append(stored)
    if arguments.json:
        print(json.dumps({"key": secret, **_document(stored, file)}, indent=2))
        return 0
    until = f", until {stored.expires}" if stored.expires else ""
    print(f"key {stored.id} of tenant {tenant}, role {stored.role}{until}, is in {file}", file=sys.stderr)
    if tenants is None and tenant != DEFAULT_TENANT:
        print(f"note: without a configuration nobody checked that the tenant {tenant} exists", file=sys.stderr)
    print("this is the only time that it is shown:", file=sys.stderr)
    sys.stderr.flush()
    print(secret)
    return 0


def _print_entry(secret: str, stored: StoredKey, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"key": secret, **_document(stored, "")}, indent=2))
        return
    print("for the configuration, under access.keys:", file=sys.stderr)
    fields = {"id": stored.id, "sha256": stored.sha256, "tenant": stored.tenant, "role": stored.role}
    if stored.expires:
        fields["expires"] = stored.expires
    if stored.note:
        fields["note"] = json.dumps(stored.note, ensure_ascii=False)
    print(f"    - {{{', '.join(f'{name}: {value}' for name, value in fields.items())}}}", file=sys.stderr)
    print("this is the only time that the key is shown:", file=sys.stderr)
    sys.stderr.flush()
    print(secret)


def _list(where: _Where, arguments: argparse.Namespace) -> int:
    configured = where.access.keys if where.access is not None else ()
    if not configured:
        where.required()
    found = [
        (
            StoredKey(
                id=key.id, sha256=key.sha256, tenant=key.tenant, role=key.role, expires=key.expires, note=key.note
            ),
            "",
        )
        for key in configured
    ]
    found += [(key, where.file) for key in (read_keys(where.file) if where.file else ())]
    now = time.time()
    shown = [
        _document(key, file or where.source)
        for key, file in found
        if (arguments.all or key.state(now) != "revoked") and arguments.tenant in ("", key.tenant)
    ]
    if arguments.json:
        print(json.dumps({"keys": shown}, indent=2))
        return 0
    if not shown:
        print("there is no key; make one: gearshift keys create", file=sys.stderr)
        return 0
    columns = ("id", "tenant", "role", "state", "created", "expires", "note", "source")
    rows = [columns, *[tuple(each[column] or "-" for column in columns) for each in shown]]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _revoke(where: _Where, arguments: argparse.Namespace) -> int:
    file = where.required()
    wanted = [_id_of(each) for each in arguments.ids]
    revoked: list[str] = []
    already: list[str] = []
    with changing(file) as keys:
        places = {key.id: number for number, key in enumerate(keys)}
        for key_id in wanted:
            if key_id not in places:
                raise ConfigError([_unknown(key_id, file, places, where)])
            old = keys[places[key_id]]
            if old.revoked:
                already.append(key_id)
                continue
            keys[places[key_id]] = structs.replace(old, revoked=utc(time.time()))
            revoked.append(key_id)
    if arguments.json:
        print(json.dumps({"revoked": revoked, "already_revoked": already, "file": file}, indent=2))
        return 0
    for key_id in revoked:
        print(f"revoked {key_id}: servers that follow {file} refuse it within seconds")
    for key_id in already:
        print(f"{key_id} was revoked before")
    return 0


def _unknown(key_id: str, file: str, known: Mapping[str, int], where: _Where) -> str:
    if where.access is not None and any(key.id == key_id for key in where.access.keys):
        return f"key `{key_id}` stands in {where.source}, under access.keys: delete it there, and reload"
    near = difflib.get_close_matches(key_id, known, 1)
    told = f"; did you mean `{near[0]}`?" if near else "; see: gearshift keys list"
    return f"{file} has no key `{key_id}`{told}; nothing was revoked"


def _id_of(text: str) -> str:
    """Give the public part of what may be a whole key, which must not be repeated."""
    if text.startswith("gs_") and text.count("_") >= 2:
        return text.removeprefix("gs_").rpartition("_")[0]
    return text


def _document(key: StoredKey, source: str) -> dict[str, str]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "role": key.role,
        "state": key.state(time.time()),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "note": key.note,
        "sha256": key.sha256,
        "source": source,
    }
