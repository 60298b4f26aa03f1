"""Reads the command line, runs one command, turns its end into an exit code.

Rules: only the command that is asked for is imported; answers go to standard output, everything else to standard
error.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from gearshift.clients.cli import exits
from gearshift.clients.cli.command import CALLS, DEMO, OPERATIONS, OWN, SERVER, SHELL, Command, load, other_commands
from gearshift.clients.cli.exits import UsageError
from gearshift.clients.cli.terminal import palette_for

_EXAMPLES: Final = """\
examples:
  gearshift demo                                     see it work, without a key
  gearshift serve                                    serve on 127.0.0.1:50051
  gearshift route "Name three rivers in Spain."
  gearshift route --label bug --label praise "It crashes."
  cat mail.txt | gearshift route --task email-triage --schema invoice.json > invoice.json
  gearshift stream --type generate "A limerick on gears."
  gearshift explain --task email-triage "Where is my parcel?"
  gearshift costs --by model --since 7d
  gearshift COMMAND --help                           teaches a command"""

_ENVIRONMENT: Final = """\
environment:
  GEARSHIFT_TARGET   the server, when --target is not given (127.0.0.1:50051)
  GEARSHIFT_API_KEY  the API key; it is never taken from the command line
  NO_COLOR           no colours"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    is_json = "--json" in words
    try:
        return _run(words)
    except SystemExit as leave:  # argparse has said why
        return leave.code if isinstance(leave.code, int) else exits.USAGE
    except UsageError as error:
        print(f"gearshift: {error}", file=sys.stderr)
        return exits.USAGE
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # What reads us has gone; Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    except Exception as error:
        code = _told(error, is_json=is_json)
        if code is None:
            raise
        return code


def new_parser(words: Sequence[str], *, everything: bool = False) -> argparse.ArgumentParser:
    """Make the parser, with the arguments of the command in words only, or of every command."""
    parser = argparse.ArgumentParser(
        prog="gearshift",
        usage="gearshift [--help] [--version] COMMAND ...",
        description=_overview() if not _command_of(words) else None,
        epilog=f"{_EXAMPLES}\n\n{_ENVIRONMENT}\n\n{exits.TABLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", help=argparse.SUPPRESS)
    wanted = _command_of(words)
    names = [*OWN, *other_commands()] if everything else [wanted] if wanted else []
    for name in names:
        if (command := _load(name, is_needed=not everything)) is not None:
            _add(commands, name, command)
    return parser


def _run(words: list[str]) -> int:
    parser = new_parser(words)
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        whose = f"gearshift {arguments.command}" if arguments.command else "gearshift"
        raise UsageError(f"not known here: {' '.join(unknown)}; see: {whose} --help")
    if arguments.version and not arguments.command:
        words, parser = ["version"], new_parser(["version"])
        arguments = parser.parse_args(words)
    if not arguments.command:
        parser.print_help(sys.stderr)
        return exits.USAGE
    command = load(arguments.command)
    if command is None:
        return exits.USAGE
    code = command.run(arguments)
    sys.stdout.flush()
    return code


def _command_of(words: Sequence[str]) -> str:
    """Give the command: the first word that is no option, since no option before it takes a value."""
    return next((word for word in words if not word.startswith("-")), "")


def _load(name: str, *, is_needed: bool) -> Command | None:
    try:
        command = load(name)
    except Exception:  # another package's fault, of whatever kind, must not take help and completion with it
        if is_needed:
            raise
        return None
    if command is None and is_needed:
        near = difflib.get_close_matches(name, [*OWN, *SERVER, *other_commands()], 1)
        hint = f"did you mean '{near[0]}'?" if near else "see: gearshift --help"
        raise UsageError(f"there is no command '{name}'; {hint}")
    return command


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
    name: str,
    command: Command,
) -> None:
    text = command.help[:1].upper() + command.help[1:]
    parser = commands.add_parser(
        name,
        prog=f"gearshift {name}",
        help=command.help,
        description=f"{text.rstrip('.')}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.configure(parser)


def _overview() -> str:
    """Say what there is, in groups."""
    groups: list[tuple[str, Mapping[str, str]]] = [
        ("calls (to a running server)", CALLS),
        ("operations (to a running server)", OPERATIONS),
        ("server (pip install 'gearshift[server]')", SERVER | DEMO),
        ("shell", SHELL),
    ]
    others = sorted(name for name in other_commands() if name not in SERVER)
    if others:
        groups.append(("others", {name: _help_of(name) for name in others}))
    lines = ["Send every AI call to the cheapest model that can do it well."]
    for title, commands in groups:
        lines += ["", f"{title}:", *(f"  {name:<12}{text}" for name, text in commands.items())]
    return "\n".join(lines)


def _help_of(name: str) -> str:
    command = _load(name, is_needed=False)
    return "cannot be loaded" if command is None else command.help


def _told(error: Exception, *, is_json: bool) -> int | None:
    """Print a failed call and give its exit code; None when it is no failed call."""
    from gearshift.clients.cli.failed import print_failure
    from gearshift.clients.errors import RpcError, StreamProtocolError

    if isinstance(error, RpcError):
        print_failure(error, palette_for(sys.stderr), is_json=is_json)
        return exits.exit_code_of(error)
    if isinstance(error, StreamProtocolError):
        print(f"gearshift: the server's events break the contract: {error}", file=sys.stderr)
        return exits.FAILED
    return None
