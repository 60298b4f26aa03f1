"""How services are added to the gRPC server.

Rules: every handler is added as a generic one, never as a registered one. grpc.aio waits for the next call of each
registered method by itself, and for each call that comes it sets up and takes down all of these waits anew: a call to a
server of twenty methods costs an eighth more than to one of a single method. A generic handler is found by one look into
a dictionary for each service, in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, cast

import grpc

Wrap = Callable[[str, Any], Any]
"""Given a service's name and a handler, gives the handler to add."""


def handlers_of(
    server: grpc.aio.Server, wrap: Wrap | None = None, kept: MutableMapping[str, Any] | None = None
) -> grpc.aio.Server:
    """Give what generated code adds a service to in place of the server.

    Args:
        wrap: what is done to each handler before it is added; None adds it as it is.
        kept: where each handler is put by its path as well, for those who call it otherwise than over gRPC.
    """
    return cast("grpc.aio.Server", _Handlers(server, wrap, kept))


class _Handlers:
    """The part of a server that generated code calls."""

    def __init__(
        self, server: grpc.aio.Server, wrap: Wrap | None, kept: MutableMapping[str, Any] | None = None
    ) -> None:
        self._server = server
        self._wrap = wrap
        self._kept = kept

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Pass over: generated code brings the same handlers once more, by the names of their methods."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add a service's handlers."""
        wrap = self._wrap
        added = dict(handlers)
        if wrap is not None:
            added = {method: wrap(service, handler) for method, handler in handlers.items()}
        if self._kept is not None:
            self._kept.update((f"/{service}/{method}", handler) for method, handler in added.items())
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, added),))
