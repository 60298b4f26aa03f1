"""Which version this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def service_version() -> str:
    """Give the installed version."""
    try:
        return version("gearshift")
    except PackageNotFoundError:
        return "unknown"
