"""Server reflection, v1 and v1alpha, so that grpcurl needs nothing but the address.

Rules: grpcio-reflection serves v1alpha only; v1 has the same messages under another name, so the same servicer is
registered there as well, and is not listed, since no descriptor of that name is in the pool (facts.md 1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from gearshift.server.handlers import Wrap

_V1 = "grpc.reflection.v1.ServerReflection"


def enable_reflection(server: grpc.aio.Server, services: Sequence[str], wrap: Wrap) -> None:
    """Let callers ask for these services' descriptions.

    Args:
        wrap: what is done to each handler before it is added.
    """
    names = [*services, reflection.SERVICE_NAME]
    servicer = reflection.aio.ReflectionServicer(names, cast("descriptor_pool.DescriptorPool", _Pool()))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (reflection.SERVICE_NAME, _V1):
        handlers = {"ServerReflectionInfo": wrap(name, handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


class _Pool:
    """The process's descriptors; finds methods too, for which `grpcurl describe` asks and protobuf's own pool does not."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """Give the file that defines a symbol.

        Raises:
            KeyError: none does.
        """
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service = self._pool.FindMethodByName(symbol).containing_service
            return self._pool.FindFileContainingSymbol(service.full_name)
