"""`gearshift version`: the version of this command line, not of a server (that is `gearshift status`)."""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from typing import Final

from gearshift.clients.cli.command import SHELL
from gearshift.clients.cli.exits import OK

name: Final = "version"
help: Final = SHELL[name]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    versions = {package: metadata.version(package) for package in ("gearshift", "grpcio", "protobuf")}
    versions["python"] = platform.python_version()
    if getattr(arguments, "json", False):
        print(json.dumps(versions))
    else:
        others = ", ".join(f"{package} {version}" for package, version in versions.items() if package != "gearshift")
        print(f"gearshift {versions['gearshift']} ({others})")
    return OK
