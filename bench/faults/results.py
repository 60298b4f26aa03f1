"""The figures of all gateways, kept in a file between sittings, with when and how each was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench.common.process import ROOT
from bench.faults.gateway import Gateway
from bench.faults.score import Cell


@dataclass
class Measured:
    """One gateway's figures; `cells` by row and mode."""

    date: str
    version: str
    commit: str
    machine: str
    settings: tuple[str, ...]
    seed: int
    usage: str
    runs: int
    in_flight: int
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict[str, dict[str, Cell]])

    def cell(self, row: str, mode: str) -> Cell | None:
        """Give the figures of a fault in a mode; None when it was not run."""
        return self.cells.get(row, {}).get(mode)


@dataclass
class Results:
    """Every gateway's figures, by name; those of a new sitting replace the same gateway's old ones."""

    gateways: dict[str, Measured] = field(default_factory=dict[str, Measured])

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what earlier sittings left; a file that cannot be read is taken as empty."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls, strict=False)
        except (OSError, msgspec.DecodeError):
            return cls()

    def save(self, path: Path) -> None:
        """Write everything."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(self))

    def begin(self, gateway: Gateway, *, seed: int, usage: str, runs: int) -> Measured:
        """Begin a gateway's figures anew."""
        made = Measured(
            date=datetime.now(UTC).isoformat(timespec="minutes"),
            version=gateway.version(),
            commit=_commit(),
            machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            settings=gateway.settings,
            seed=seed,
            usage=usage,
            runs=runs,
            in_flight=gateway.in_flight,
        )
        self.gateways[gateway.name] = made
        return made

    def document(self) -> Any:
        """Give it as plain JSON values."""
        return msgspec.to_builtins(self)


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty=, with changes"]
    try:
        return subprocess.check_output(command, cwd=ROOT, text=True, timeout=30, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
