"""The command line, `gearshift`."""

from gearshift.clients.cli.program import main

__all__ = ["main"]
