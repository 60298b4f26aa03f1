"""What Linux tells of a process: memory, descriptors, sockets, threads, CPU."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Proc:
    """A process that runs."""

    pid: int

    def rss_mib(self) -> float:
        """Give its resident memory, MiB."""
        return self._status("VmRSS") / 1024

    def threads(self) -> int:
        """Give its threads."""
        return self._status("Threads")

    def cpu_s(self) -> float:
        """Give the CPU that it has used so far, seconds, user and system."""
        fields = (self._folder / "stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK_S

    def descriptors(self) -> tuple[int, int]:
        """Give its open descriptors, and how many of them are sockets."""
        sockets = total = 0
        for link in (self._folder / "fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:  # closed a moment ago
                continue
            total += 1
            sockets += target.startswith("socket:")
        return total, sockets

    def targets(self) -> Counter[str]:
        """Give what its open descriptors are, by the target of the link: a path, or a kind such as `anon_inode:[eventpoll]`.

        Sockets and pipes go without their inode.
        """
        found = Counter[str]()
        for link in (self._folder / "fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:  # closed a moment ago
                continue
            found[target.partition(":")[0] if target.startswith(("socket:", "pipe:")) else target] += 1
        return found

    @property
    def _folder(self) -> Path:
        return Path(f"/proc/{self.pid}")

    def _status(self, name: str) -> int:
        for line in (self._folder / "status").read_text("ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        return 0
