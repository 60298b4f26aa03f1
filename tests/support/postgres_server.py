"""A real PostgreSQL for a test, on a free port and in a folder of its own.

    with postgres_server() as server:
        ...  # server.url; server.stop(); server.start(); server.pause(); server.resume()

Debian's server does not run as root: then it is run as `postgres`. It is stopped by its process id when the block is
left. A test that needs it skips where it is not installed, except under CI.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_S = 30.0
_USER = "postgres"
_NAME = "gearshift"


def postgres_bin() -> Path:
    """Give the folder of PostgreSQL's programs; skip the test when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda each: int(each.parts[-3]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("postgres"):
        return Path(on_path).parent
    message = "PostgreSQL is not installed: make test-deps"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@dataclass
class PostgresServer:
    """A server that may be stopped and started again."""

    folder: Path
    programs: Path
    port: int
    addresses: tuple[str, ...] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return self.url_of(_NAME)

    def url_of(self, database: str, user: str = _USER) -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = (self.folder / "log").open("ab")
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data")]
        command += ["-h", ",".join(("127.0.0.1", *self.addresses))]
        command += ["-p", str(self.port), "-k", str(self.folder), "-c", "fsync=off"]
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_as_postgres())  # type: ignore[call-overload]
        ends_at = time.monotonic() + START_S
        while subprocess.run(self._client("pg_isready", "-q", "-d", "postgres"), check=False).returncode != 0:
            said = (self.folder / "log").read_text(errors="replace")
            assert self._process is not None and self._process.poll() is None, said
            assert time.monotonic() < ends_at, f"PostgreSQL did not start:\n{said}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Break off every connection and stop."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    def pause(self) -> None:
        """Hang: connections stand and nothing answers."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def run(self, sql: str, database: str = _NAME) -> str:
        """Run SQL with psql and give what it prints."""
        command = self._client("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _client(self, program: str, *arguments: str) -> list[str]:
        return [str(self.programs / program), "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, *arguments]

    def _pids(self) -> list[int]:
        assert self._process is not None
        own = self._process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        return [own, *map(int, children)]


@contextmanager
def postgres_server(*addresses: str) -> Generator[PostgresServer]:
    """Run a server with an empty database while the block runs; it listens on these addresses of a test's network too."""
    programs = postgres_bin()
    # Not pytest's folder, which is root's alone; and short, for the Unix socket's path.
    folder = Path(tempfile.mkdtemp(prefix="gearshift-pg-"))
    server = PostgresServer(folder, programs, _free_port(), addresses)
    try:
        if os.getuid() == 0:
            os.chown(folder, pwd.getpwnam(_USER).pw_uid, grp.getgrnam(_USER).gr_gid)
        command = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "-N"]
        command += ["--encoding=UTF8", "--locale=C"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **_as_postgres())  # type: ignore[call-overload]
        with (folder / "data" / "pg_hba.conf").open("a") as allowed:
            allowed.writelines(f"host all all {address}/24 trust\n" for address in addresses)
        server.start()
        server.run(f"CREATE DATABASE {_NAME}", "postgres")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _as_postgres() -> dict[str, object]:
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam(_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
