"""`gearshift top`: the service at a glance, live."""

from __future__ import annotations

import argparse
import datetime
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gearshift.clients.cli.arguments import add_connection, client_from
from gearshift.clients.cli.command import OPERATIONS
from gearshift.clients.cli.exits import OK, UsageError
from gearshift.clients.cli.terminal import palette_for, size_of_output

if TYPE_CHECKING:
    from gearshift.clients.cli.render_top import Glance
    from gearshift.clients.sync import Client

name: Final = "top"
help: Final = OPERATIONS[name]

_EPILOG: Final = """\
examples:
  gearshift top
  gearshift top --interval 5 --target ops.internal:50051
  gearshift top --once                               one screen, for a log or a mail

q or Ctrl-C leaves. Figures are those of the last half hour, from the ledger. When the server goes away, what was seen last
stays, and it goes on when the server is back."""

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"
_ONCE_LINES: Final = 1000
_ATTEMPTS: Final = 12
_PATIENCE_S: Final = 10.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("--interval", type=float, default=2.0, metavar="SECONDS", help="between looks (2)")
    parser.add_argument("--once", action="store_true", help="print one screen and end; also where there is no terminal")
    add_connection(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show until it is left, and return the exit code."""
    from gearshift.clients.cli import render_top
    from gearshift.clients.errors import Code, RpcError

    if not 0.2 <= arguments.interval <= 3600:
        raise UsageError("--interval must be 0.2 to 3600 seconds")
    palette = palette_for(sys.stdout)
    with client_from(arguments) as client:
        if arguments.json:
            _print_json(_look(client, arguments))
            return OK
        if arguments.once or not sys.stdout.isatty() or not sys.stdin.isatty():
            columns = shutil.get_terminal_size((200, 50)).columns
            print(render_top.screen(_look(client, arguments), palette, columns=columns, lines=_ONCE_LINES))
            return OK
        seen = _look(client, arguments)
        with _whole_screen():
            lost = ""
            while True:
                size = size_of_output()
                shown = render_top.screen(seen, palette, columns=size.columns, lines=max(1, size.lines - 1), lost=lost)
                lines = f"{_CLEAR_LINE}\r\n".join(shown.split("\n"))
                sys.stdout.write(f"{_HOME}{lines}{_CLEAR_LINE}{_CLEAR_BELOW}")
                sys.stdout.flush()
                if _is_left_within(arguments.interval):
                    return OK
                try:
                    seen, lost = _look(client, arguments), ""
                except RpcError as error:
                    if error.code not in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                        raise
                    lost = (
                        lost or f"the server does not answer since {datetime.datetime.now(datetime.UTC):%H:%M:%S} UTC"
                    )


def _look(client: Client, arguments: argparse.Namespace) -> Glance:
    from gearshift.clients.cli.render_top import PERIOD_S, STEPS, Glance
    from gearshift.clients.context import background

    until = datetime.datetime.now(datetime.UTC)
    since = until - datetime.timedelta(seconds=PERIOD_S)
    ctx = background().with_timeout(arguments.timeout or _PATIENCE_S)
    return Glance(
        status=client.ops.get_status(ctx),
        stages=client.ops.list_stages(ctx),
        traffic=client.ops.get_traffic(ctx, since=since, until=until, step_seconds=PERIOD_S / STEPS),
        costs=client.ops.get_cost_report(ctx, since=since, until=until),
        attempts=client.ops.list_attempts(ctx, page_size=_ATTEMPTS).attempts,
    )


def _print_json(seen: Glance) -> None:
    import json

    from google.protobuf.json_format import MessageToDict

    whole = {
        "status": MessageToDict(seen.status, preserving_proto_field_name=True),
        "stages": [MessageToDict(each, preserving_proto_field_name=True) for each in seen.stages],
        "traffic": MessageToDict(seen.traffic, preserving_proto_field_name=True),
        "costs": MessageToDict(seen.costs, preserving_proto_field_name=True),
        "attempts": [MessageToDict(each, preserving_proto_field_name=True) for each in seen.attempts],
    }
    print(json.dumps(whole, indent=2))


@contextmanager
def _whole_screen() -> Generator[None]:
    """Have the terminal's other screen, and single keys, while the block runs; all is as before when it is left."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    sys.stdout.write(_ENTER)
    try:
        tty.setcbreak(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _is_left_within(seconds: float) -> bool:
    """Wait, and tell whether q was pressed meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready:
            pressed = os.read(sys.stdin.fileno(), 64)
            if not pressed or pressed.lower().startswith(b"q"):
                return True
            if pressed in (b" ", b"\n"):
                return False
    return False
