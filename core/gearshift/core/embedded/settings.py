"""How the embedded model runs: its file, its threads, its room.

Rules: the defaults fit one small machine; the numbers were measured with the default weights (docs/embedded.md). Only
`available_cores` looks at the machine.
"""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from gearshift.core.embedded.weights import default_cache_directory

MAX_WRITE_THREADS = 4
MAX_READ_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedSettings:
    """Everything that the supervisor needs.

    Args:
        model_path: a GGUF file; None is the default model.
        sha256: the digest expected of `model_path`, hex; empty does not check it.
        threads: for both reading and writing; 0 takes half the cores, at most 4 for writing tokens and 8 for reading
            prompts. The threads of llama.cpp wait for each other in loops some hundred times a token, so a core that
            something else holds makes all of them wait: with a thread for each of two busy cores an answer took up to
            100 times as long, with one thread 3 times.
        context_tokens: shared by all slots; one call may take all of it.
        slots: calls that run at once.
        batch_tokens: tokens read in one step, and the most that are embedded in one piece. Embedding costs 2 MiB of
            memory for each; reading prompts is no faster above 128.
        cache_directory: private folder for the default weights.
        runtime_directory: parent of the socket's private folder; None is the system's temporary directory.
        start_timeout_s: the longest that a start may take.
        stop_timeout_s: from SIGTERM to SIGKILL.

    """

    model_path: Path | None = None
    sha256: str = ""
    threads: int = 0
    context_tokens: int = 8192
    slots: int = 2
    batch_tokens: int = 128
    cache_directory: Path = field(default_factory=default_cache_directory)
    runtime_directory: Path | None = None
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 3.0

    def write_threads(self, cores: int) -> int:
        """Give how many threads write tokens on a machine with `cores`."""
        return self.threads or max(1, min(cores // 2, MAX_WRITE_THREADS))

    def read_threads(self, cores: int) -> int:
        """Give how many threads read prompts on a machine with `cores`."""
        return self.threads or max(1, min(cores // 2, MAX_READ_THREADS))


def available_cores() -> int:
    """Give the cores that this process may use: its affinity, and its container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores
