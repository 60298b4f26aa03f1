"""`python -m gearshift.server serve …`: the server's commands without the client's command line."""

from __future__ import annotations

import argparse
import sys

from gearshift.server.cli.serve import COMMAND


def main() -> int:
    """Run `serve` with the process's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m gearshift.server", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    COMMAND.configure(commands.add_parser(COMMAND.name, help=COMMAND.help))
    return COMMAND.run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
