"""The routing itself: no gRPC, no protobuf, no global state.

`open_router` gives a `Router` for a configuration. Both are imported when they are first used, so that a module of the
core can be imported without the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gearshift.core.opening import open_router
    from gearshift.core.router import Router

__all__ = ["Router", "open_router"]


def __getattr__(name: str) -> object:
    if name == "open_router":
        from gearshift.core.opening import open_router

        return open_router
    if name == "Router":
        from gearshift.core.router import Router

        return Router
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
