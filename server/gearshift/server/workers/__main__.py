"""A worker's process: python -m gearshift.server.workers BUS LIFELINE, which are inherited file descriptors.

Rules: started by a supervisor only. It waits to be told what to serve, serves until it is told to stop or its supervisor
has gone, and then drains. Ctrl-C and SIGHUP are the supervisor's business.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

_OWN_WAY_S = 20.0
"""How long after its grace a worker whose supervisor has gone may take, also when its loop hangs."""


def main() -> int:
    """Serve as one of several."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if len(sys.argv) != 3:
        print("workers are started by `gearshift serve --workers N`", file=sys.stderr)
        return 2
    bus, lifeline = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(bus, False)
    os.set_inheritable(lifeline, False)
    from gearshift.server.workers.serving import read_start, serve_as_worker

    connected = socket.socket(fileno=bus)
    try:
        start = read_start(connected)
    except ConnectionError:
        return 1
    drain_s = start.config.server.notice_s + start.config.server.grace_s
    threading.Thread(target=_watch, args=(lifeline, drain_s), daemon=True, name="lifeline").start()
    return serve_as_worker(connected, start)


def _watch(lifeline: int, drain_s: float) -> None:
    """Stop when the supervisor goes, by force when nothing else helps."""
    while os.read(lifeline, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(drain_s + _OWN_WAY_S)
    os._exit(70)


if __name__ == "__main__":
    sys.exit(main())
