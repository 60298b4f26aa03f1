"""One stream as it is on the wire, recorded into a case.

Rules: what differs from run to run is taken out: times, and the ports of this machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, cast

import anyio
import grpc.aio
from google.protobuf import json_format
from google.rpc import status_pb2  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from gearshift.server.status import Status
from gearshift.v1 import answer_pb2, router_pb2
from tests.conformance.error_cases import refused
from tests.conformance.format import Json, case
from tests.support.running_server import RunningServer, failure_of

BOUND_S: Final = 20.0
_TIMES: Final = frozenset({"totalMs", "firstTokenMs", "queueMs"})
_PORT: Final = re.compile(r"127\.0\.0\.1:\d+")
_ATTEMPT: Final = "type.googleapis.com/gearshift.v1.Attempt"


async def record(server: RunningServer, name: str, about: str, request: router_pb2.StreamRouteRequest) -> Json:
    """Make the call and give its case."""
    with anyio.fail_after(BOUND_S):
        return await Tape(server, request).rest(name, about)


@dataclass
class Tape:
    """Reads one stream as it is on the wire."""

    server: RunningServer
    request: router_pb2.StreamRouteRequest
    messages: list[list[Json]] = field(default_factory=list[list[Json]])

    def __post_init__(self) -> None:
        self._call = self.server.router.StreamRoute(self.request, timeout=BOUND_S)

    async def read(self) -> bool:
        """Read one message; say whether there was one."""
        message = await self._call.read()
        if not isinstance(message, router_pb2.StreamRouteResponse):
            return False
        self.messages.append(_plain(json_format.MessageToDict(message))["events"])
        return True

    async def rest(self, name: str, about: str) -> Json:
        """Read to the end and give the case."""
        try:
            while await self.read():
                pass
        except grpc.aio.AioRpcError as error:
            ended = _ended(error)
            return case(
                name,
                about,
                self.messages,
                status=ended["status"],
                error={"kind": "status"} | ended["expected"],
                snapshots=False,
            )
        return case(name, about, self.messages, snapshots=False)


def _ended(error: grpc.aio.AioRpcError) -> Json:
    """Give the status of a failed call, without times in its details."""
    failed = failure_of(error)
    raw = dict(list(error.trailing_metadata())).get("grpc-status-details-bin", b"")
    assert isinstance(raw, bytes)
    status = status_pb2.Status.FromString(raw)
    attempts = 0
    for packed in status.details:
        if packed.type_url == _ATTEMPT:
            attempts += 1
            attempt = answer_pb2.Attempt()
            packed.Unpack(attempt)
            for name in ("queue_ms", "first_token_ms", "total_ms"):
                attempt.ClearField(name)
            packed.Pack(attempt)
    metadata = (("grpc-status-details-bin", status.SerializeToString(deterministic=True)),)
    return refused(
        "",
        "",
        Status(code=failed.code, message=failed.message, metadata=metadata),
        reason=failed.reason,
        retry_after=failed.retry_after_s or 0.0,
        attempts=attempts,
        violations=tuple(failed.fields.items()),
        quota=(),
    )


def _plain(value: Any) -> Any:
    """Take out what differs from run to run."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {key: _plain(each) for key, each in fields.items() if key not in _TIMES}
    if isinstance(value, list):
        return [_plain(each) for each in cast("list[object]", value)]
    return _PORT.sub("127.0.0.1:0", value) if isinstance(value, str) else value
