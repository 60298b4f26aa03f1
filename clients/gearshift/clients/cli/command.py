"""What a command is, and where commands come from.

Rules: a command is imported when it is used, and not before. Those of this package are listed here; those of others,
the server's among them, are entry points of the group `gearshift.commands`.
"""

from __future__ import annotations

import argparse
import importlib
from importlib import metadata
from typing import Final, Protocol, cast

from gearshift.clients.cli.exits import UsageError

ENTRY_POINTS: Final = "gearshift.commands"


class Command(Protocol):
    """A command, as a module or an object."""

    @property
    def name(self) -> str:
        """The word that calls it."""
        ...

    @property
    def help(self) -> str:
        """What it does, in a line."""
        ...

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments."""
        ...

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it, and return the exit code."""
        ...


CALLS: Final = {
    "route": "answer one prompt",
    "stream": "answer one prompt as the model writes it",
    "embed": "turn texts into vectors",
    "explain": "say what would be decided, without running it",
}
OPERATIONS: Final = {
    "health": "whether calls are taken",
    "status": "what is running",
    "chains": "the chains and their stages",
    "stages": "the health of each account and model",
    "costs": "what calls cost, from the ledger",
    "cache": "what the caches hold, and how to empty them",
    "trail": "attempts, recorded or as they end, and one request's whole way",
    "top": "traffic, cost and the health of stages, live",
    "reload": "have the configuration read again",
}
SHELL: Final = {
    "completion": "completion for bash, zsh or fish",
    "version": "the version of this command line",
}
DEMO: Final = {
    "demo": "see the main job on the embedded model",
}
OWN: Final = CALLS | OPERATIONS | DEMO | SHELL

SERVER: Final = {
    "serve": "run the service",
    "check": "check a configuration",
    "keys": "make, list and revoke keys",
    "models": "list, describe, pull and check models",
    "simulate": "run simulated providers, with every fault that real ones have",
    "size": "how many instances a workload needs, and what they cost against an API",
    "tune": "find thresholds for a target quality by recorded outcomes",
    "replay": "play a workload through the chains and through a single model, and compare",
}
"""The server's commands, known here so that help need not import them."""


def other_commands() -> dict[str, metadata.EntryPoint]:
    """Find the commands of other packages; none may take the name of one of ours."""
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINTS) if point.name not in OWN}


def load(name: str) -> Command | None:
    """Import a command by its name; None when there is none.

    Raises:
        UsageError: it needs packages that are not installed.

    """
    if name in OWN:
        return cast(Command, importlib.import_module(f"gearshift.clients.cli.commands.{name}"))
    point = other_commands().get(name)
    if point is None:
        if name in SERVER:
            raise UsageError(f"'{name}' belongs to the server: pip install 'gearshift[server]'")
        return None
    try:
        return cast(Command, point.load())
    except ModuleNotFoundError as error:
        if (error.name or "gearshift").startswith("gearshift"):
            raise  # ours is always there: a fault, not a missing extra
        raise UsageError(f"'{name}' needs {error.name}: pip install 'gearshift[server]'") from error
