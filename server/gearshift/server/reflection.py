"""Server reflection, v1 and v1alpha, so that grpcurl needs nothing but the address.

Rules: grpcio-reflection serves v1alpha only; v1 has the same messages under another name, so the same servicer is
registered there as well, and is not listed, since no descriptor of that name is in the pool (facts.md 1.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

_V1 = "grpc.reflection.v1.ServerReflection"


def enable_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Let callers ask for these services' descriptions."""
    names = [*services, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server)
    servicer = reflection.aio.ReflectionServicer(names)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_V1, {"ServerReflectionInfo": handler}),))
