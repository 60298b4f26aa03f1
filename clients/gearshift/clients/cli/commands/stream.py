"""`gearshift stream`: one prompt, the answer as it is written.

Rules: on a terminal text is shown as it comes, and taken back and written again when the stream shifts; in a pipe only
text that will not be taken back is written. With --json every event is a line.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final

from gearshift.clients.cli.arguments import add_call, add_connection, call_from, client_from, context_from, print_json
from gearshift.clients.cli.command import CALLS
from gearshift.clients.cli.exits import FAILED, exit_code_for
from gearshift.clients.cli.terminal import palette_for, size_of_output

if TYPE_CHECKING:
    from gearshift.clients.accumulator import Accumulator
    from gearshift.clients.sync import RouteStream

name: Final = "stream"
help: Final = CALLS[name]

_EPILOG: Final = """\
examples:
  gearshift stream "Tell me about gears."
  gearshift stream --hold-back 0 --mode continue "A long story."
  gearshift stream --preview --schema invoice.json --file mail.txt
  gearshift stream --json "Tell me about gears." | jq -c 'keys[0]'

In a pipe, text is written when it is final; with --json every event is written as it comes."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG
    add_call(parser)
    group = parser.add_argument_group("stream")
    group.add_argument("--hold-back", type=int, metavar="TOKENS", help="hold each attempt's first tokens; 0 holds none")
    group.add_argument("--hold-back-ms", type=int, metavar="MS", help="hold no longer than this")
    group.add_argument(
        "--mode", choices=("regenerate", "continue", "fail"), help="after a broken attempt (default: the task's)"
    )
    group.add_argument("--escalate-at-end", action="store_true", help="take a poor answer back even at its end")
    group.add_argument("--preview", action="store_true", help="show labels and JSON before they are accepted")
    add_connection(parser)
    parser.add_argument("-v", "--verbose", action="store_true", help="print the decision also beyond a terminal")


def run(arguments: argparse.Namespace) -> int:
    """Ask, print as it comes, and return the exit code."""
    from gearshift.clients.accumulator import Accumulator
    from gearshift.clients.calls import stream_policy
    from gearshift.clients.errors import RpcError

    call = call_from(arguments)
    policy = stream_policy(
        hold_back_tokens=arguments.hold_back,
        hold_back_ms=arguments.hold_back_ms,
        mode=arguments.mode,
        escalate_at_end=arguments.escalate_at_end,
        preview=arguments.preview,
    )
    show = _as_json if arguments.json else _on_terminal if sys.stdout.isatty() else _in_pipe
    answer = Accumulator()
    with client_from(arguments) as client, client.stream_route(context_from(arguments), call, policy) as stream:
        try:
            show(stream, answer)
        except RpcError:
            _say_decision(arguments, answer)
            raise
    if answer.completed is None:
        print("gearshift: the stream ended before its answer was complete", file=sys.stderr)
        return FAILED
    _say_decision(arguments, answer)
    if not answer.digest_matches():
        print("gearshift: the text is not what the server says that it sent", file=sys.stderr)
        return FAILED
    return exit_code_for(answer.completed.completion.outcome)


def _as_json(stream: RouteStream, answer: Accumulator) -> None:
    for event in stream:
        answer.apply(event)
        print_json(event, indent=None)


def _in_pipe(stream: RouteStream, answer: Accumulator) -> None:
    """Write what is committed as it is committed, and the rest at the end, unless the call failed."""
    from gearshift.v1 import answer_pb2

    written = 0
    for event in stream:
        answer.apply(event)
        final = answer.committed if event.HasField("checkpoint") else ""
        if event.HasField("completed") and event.completed.completion.outcome != answer_pb2.OUTCOME_FAILED:
            final = answer.text + ("" if answer.text.endswith("\n") else "\n")
        if final:
            sys.stdout.write(final[written:])
            sys.stdout.flush()
            written = len(final)


def _on_terminal(stream: RouteStream, answer: Accumulator) -> None:
    """Write text as it comes; say what happens only when no text stands in the way."""
    from gearshift.clients.cli.live import LiveText
    from gearshift.clients.cli.render import event_notice

    size = size_of_output()
    live = LiveText(size.columns, size.lines)
    palette = palette_for(sys.stderr)
    notices: list[str] = []
    try:
        for event in stream:
            text = answer.apply(event)
            if notice := event_notice(event):
                notices.append(notice)
            if text is None:
                sys.stdout.write(live.take_back())
                sys.stdout.flush()
                text = answer.text
            if live.is_empty and notices:
                print(*(palette.dim(notice) for notice in notices), sep="\n", file=sys.stderr, flush=True)
                notices.clear()
            sys.stdout.write(live.append(text))
            sys.stdout.flush()
    finally:
        sys.stdout.write(live.end())
        sys.stdout.flush()


def _say_decision(arguments: argparse.Namespace, answer: Accumulator) -> None:
    from gearshift.clients.cli import render

    if answer.completed is not None and not arguments.json and (arguments.verbose or sys.stderr.isatty()):
        print(render.decision(answer.answer(), palette_for(sys.stderr)), file=sys.stderr)
