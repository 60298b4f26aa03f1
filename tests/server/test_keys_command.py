"""`gearshift keys`: what a person sees, and what stands in the file afterwards."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gearshift.core.errors import ConfigError
from gearshift.server.cli.configured import CONFIG_VARIABLE
from gearshift.server.cli.keys import COMMAND, expires_at
from gearshift.server.keyfile import changing, new_key, read_keys, utc

CONFIG = """\
providers:
  groq: {api_key: "${NOT_SET_ANYWHERE}"}
access:
  keys_file: FILE
  keys:
    - {id: old, sha256: DIGEST, tenant: acme}
  tenants: {acme: {}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    text = CONFIG.replace("FILE", str(tmp_path / "keys")).replace("DIGEST", "0" * 64)
    (tmp_path / "gearshift.yaml").write_text(text)
    return tmp_path


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    COMMAND.configure(parser)
    return COMMAND.run(parser.parse_args(words))


def test_new_key_is_printed_once_and_kept_as_a_digest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("create", "--tenant", "acme", "--note", "web shop") == 0
    told = capsys.readouterr()
    key = told.out.strip()
    assert re.fullmatch(r"gs_[0-9a-f]{10}_[0-9a-f]{64}", key)
    assert "this is the only time that it is shown" in told.err and key not in told.err
    file = folder / "keys"
    assert key[-64:] not in file.read_text()
    (stored,) = read_keys(str(file))
    assert stored.sha256 == hashlib.sha256(key.encode()).hexdigest()
    assert (stored.tenant, stored.role, stored.note, stored.expires) == ("acme", "caller", "web shop", "")
    assert file.stat().st_mode & 0o777 == 0o600


def test_list_shows_keys_of_both_places_and_no_secret(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("create", "--id", "night-shift", "--role", "ops", "--expires", "90d")
    key = capsys.readouterr().out.strip()
    assert run("list", "--json") == 0
    listed = {each["id"]: each for each in json.loads(capsys.readouterr().out)["keys"]}
    assert listed["old"]["source"] == "gearshift.yaml"
    assert (listed["night-shift"]["role"], listed["night-shift"]["state"]) == ("ops", "active")
    assert run("list") == 0
    table = capsys.readouterr().out
    assert "night-shift" in table and key[-64:] not in table
    assert run("list", "--tenant", "acme") == 0
    assert "night-shift" not in capsys.readouterr().out


def test_revoked_key_keeps_its_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("create", "--id", "a")
    run("create", "--id", "b")
    key = capsys.readouterr().out.split()[0]
    # A whole key that somebody pastes is taken, and not repeated.
    assert run("revoke", key) == 0
    told = capsys.readouterr()
    assert "revoked a" in told.out and key not in told.out + told.err
    assert run("revoke", "a") == 0
    assert "was revoked before" in capsys.readouterr().out
    run("list")
    assert not re.search(r"^a\b", capsys.readouterr().out, re.MULTILINE)
    run("list", "--all")
    assert re.search(r"^a\b.*revoked", capsys.readouterr().out, re.MULTILINE)
    assert [bool(each.revoked) for each in read_keys(str(folder / "keys"))] == [True, False]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(("create", "--tenant", "acm"), "did you mean `acme`?", id="tenant misspelt"),
        pytest.param(("create", "--id", "old"), "has a key `old` already", id="id of the configuration"),
        pytest.param(("create", "--id", "no blanks"), "id `no blanks` is not a name", id="id is no name"),
        pytest.param(("create", "--note", "two\nlines"), "one line", id="note of two lines"),
        pytest.param(("revoke", "old"), "delete it there, and reload", id="key of the configuration"),
        pytest.param(("revoke", "apq"), "did you mean `app`?", id="id misspelt"),
        pytest.param(("create", "--id", "app"), "has a key `app` already, perhaps revoked", id="id taken"),
        pytest.param(("list", "--config", "missing.yaml"), "cannot be read", id="no configuration"),
        pytest.param(("create", "--file", "/proc/no/keys"), "cannot be written", id="no such folder"),
    ],
)
def test_what_cannot_be_done_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    run("create", "--id", "app")
    before = (folder / "keys").read_text()
    capsys.readouterr()
    assert run(*words) == 1
    seen = capsys.readouterr()
    assert told in seen.err and seen.out == ""
    assert (folder / "keys").read_text() == before


def test_revoking_several_is_all_or_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("create", "--id", "a")
    assert run("revoke", "a", "zz") == 1
    assert "nothing was revoked" in capsys.readouterr().err
    assert not read_keys(str(folder / "keys"))[0].revoked


def test_without_any_file_one_is_told_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    assert run("create") == 1
    assert "give --config FILE, or --file FILE" in capsys.readouterr().err
    Path("gearshift.yaml").write_text("version: 1\n")
    assert run("create") == 1
    assert "add `access: {keys_file:" in capsys.readouterr().err
    assert run("create", "--file", "elsewhere", "--tenant", "acme", "--config", "gearshift.yaml") == 1
    assert "has no tenant `acme`" in capsys.readouterr().err
    assert run("create", "--no-file", "--id", "x", "--json") == 0
    assert json.loads(capsys.readouterr().out)["key"].startswith("gs_x_")


@pytest.mark.parametrize("text", ["yesterday", "2020-01-01", "2027-02-30", "0d", "2027-1-1", ""])
def test_expiry_that_is_no_time_to_come_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("create", f"--expires={text}")
    assert caught.value.code == 2
    assert "--expires" in capsys.readouterr().err


def test_expiry_is_a_length_or_a_point_in_time() -> None:
    assert expires_at("never") == ""
    assert expires_at("2999-01-31") == "2999-01-31"
    now = time.time()
    assert utc(now + 90 * 86_400) <= expires_at("90d") <= utc(now + 90 * 86_400 + 5)


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    file = str(tmp_path / "keys")

    def add(number: int) -> None:
        with changing(file) as keys:
            keys.append(new_key(tenant="default", key_id=f"k{number}")[1])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    assert {each.id for each in read_keys(file)} == {f"k{number}" for number in range(40)}


def test_change_that_fails_leaves_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    with changing(str(file)) as keys:
        keys.append(new_key(tenant="default", key_id="a")[1])
    before = file.read_bytes()
    with pytest.raises(RuntimeError, match="half way"), changing(str(file)) as keys:
        keys.clear()
        raise RuntimeError("half way")
    assert file.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} == {"keys", "keys.lock"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("nonsense", "keys:2: is no key", id="no JSON"),
        pytest.param('{"id": "a", "sha256": "00", "tenant": "t"}', "keys:2: key `a`: sha256 must be 64", id="digest"),
        pytest.param('{"id": "a", "sha256": "DIGEST", "tenant": "t", "rolle": "ops"}', "unknown field", id="field"),
        pytest.param('{"id": "a", "sha256": "DIGEST", "tenant": "t", "role": "root"}', "`caller` or `ops`", id="role"),
        pytest.param(
            '{"id": "a", "sha256": "DIGEST", "tenant": "t", "expires": "soon"}', "must be a time", id="expiry"
        ),
        pytest.param('{"id": "a", "sha256": "DIGEST"}', "missing required field", id="tenant"),
        pytest.param('{"id": "ok", "sha256": "DIGEST", "tenant": "t"}', "key `ok` stands twice", id="twice"),
    ],
)
def test_wrong_line_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "keys"
    good = '{"id": "ok", "sha256": "DIGEST", "tenant": "t"}'
    file.write_text(f"{good}\n{line}\n".replace("DIGEST", "0" * 64))
    with pytest.raises(ConfigError) as caught:
        read_keys(str(file))
    assert told in caught.value.message
