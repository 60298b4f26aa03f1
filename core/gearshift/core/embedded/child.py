"""The embedded model's process: llama.cpp's server on a Unix socket, and nothing else.

Rules: run by the supervisor, by path, so that nothing of gearshift is imported; llama.cpp's wheel is loaded here only.
No TCP port is opened. Standard output carries one JSON object a line: {"phase": "loading" | "ready" | "failed", …}.
The process ends when its standard input ends, when its parent dies, or on SIGTERM.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_WARNINGS = 2
"""llama.cpp's verbosity: 1 errors, 2 warnings, 3 a few lines a request."""
_PROMPT_CACHE_MIB = 64
"""Most memory for prompts of slots that have been given away; llama.cpp's default is 8 GiB."""


def main(arguments: list[str] | None = None) -> int:
    """Serve until the parent goes; give the exit status."""
    options = _parse(arguments)
    _die_with_parent(options.parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which drains first
    _say(phase="loading")
    started = time.monotonic()
    try:
        server = _serve(options)
    except (RuntimeError, ImportError, ValueError) as error:
        _say(phase="failed", error=str(error))
        return 3
    _say(phase="ready", load_s=round(time.monotonic() - started, 3))
    while os.read(0, 4096):
        pass
    del server
    os._exit(0)  # threads of llama.cpp would hold an orderly exit up, and there is nothing to save


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="path of a GGUF file")
    parser.add_argument("--socket", required=True, help="path of the Unix socket to make; must end in .sock")
    parser.add_argument("--name", default="embedded", help="model name in answers")
    parser.add_argument("--threads", type=int, default=1, help="threads that write tokens")
    parser.add_argument("--batch-threads", type=int, default=1, help="threads that read prompts")
    parser.add_argument("--context", type=int, default=8192, help="tokens of context, shared by all slots")
    parser.add_argument("--slots", type=int, default=2, help="calls that run at once")
    parser.add_argument("--batch", type=int, default=128, help="tokens in one step, and the longest embedded text")
    parser.add_argument("--parent-pid", type=int, default=0, help="end when this process is no longer the parent")
    return parser.parse_args(arguments)


def _serve(options: argparse.Namespace) -> object:
    import xllamacpp  # type: ignore[import-untyped, unused-ignore]

    llama: Any = xllamacpp  # the wheel has no types
    params = llama.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.name}
    params.hostnames = [options.socket]
    params.n_ctx = options.context
    params.n_parallel = options.slots
    params.kv_unified = True  # one call may take the whole context
    params.cont_batching = True
    params.n_batch = options.batch
    params.n_ubatch = options.batch
    params.embedding = True
    params.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.batch_threads
    # Spinning threads starve each other when the machine is busy: 100 times slower on two shared cores.
    params.cpuparams.poll = 0
    params.cpuparams_batch.poll = 0
    params.cache_ram_mib = _PROMPT_CACHE_MIB
    params.verbosity = _WARNINGS
    params.endpoint_metrics = True  # counts only: how many calls run and wait
    params.endpoint_slots = False  # it would show the prompts of other calls
    params.ui = False
    params.offline = True
    return llama.Server(params)


def _die_with_parent(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent_pid and os.getppid() != parent_pid:
        os._exit(0)  # it died before the line above


def _say(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
