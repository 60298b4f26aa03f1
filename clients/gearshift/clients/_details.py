"""Reads the `google.rpc` details of a status without googleapis-common-protos.

Rules: the few messages that we read are described here and live in a pool of their own, so that nothing clashes when
the generated ones are installed too; field numbers are those of google/rpc/status.proto and error_details.proto
(https://github.com/googleapis/googleapis/tree/master/google/rpc). What cannot be read is left out, never raised.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory
from google.protobuf.message import DecodeError

from gearshift.clients.errors import Detail, QuotaViolation, StatusDetails, Violation
from gearshift.v1 import answer_pb2

STATUS_KEY: Final = "grpc-status-details-bin"
"""The trailing metadata that carries a google.rpc.Status."""

_Field = descriptor_pb2.FieldDescriptorProto
_STRING: Final = _Field.TYPE_STRING
_INT32: Final = _Field.TYPE_INT32

# message: its fields as (name, number, type or message name, repeated)
_MESSAGES: Final[dict[str, tuple[tuple[str, int, Any, bool], ...]]] = {
    "Status": (
        ("code", 1, _INT32, False),
        ("message", 2, _STRING, False),
        ("details", 3, ".google.protobuf.Any", True),
    ),
    "MetadataEntry": (("key", 1, _STRING, False), ("value", 2, _STRING, False)),
    "ErrorInfo": (
        ("reason", 1, _STRING, False),
        ("domain", 2, _STRING, False),
        # A map on the wire is a list of entries; read so, it needs no map option.
        ("metadata", 3, ".google.rpc.MetadataEntry", True),
    ),
    "RetryInfo": (("retry_delay", 1, ".google.protobuf.Duration", False),),
    "FieldViolation": (("field", 1, _STRING, False), ("description", 2, _STRING, False)),
    "BadRequest": (("field_violations", 1, ".google.rpc.FieldViolation", True),),
    "QuotaViolation": (("subject", 1, _STRING, False), ("description", 2, _STRING, False)),
    "QuotaFailure": (("violations", 1, ".google.rpc.QuotaViolation", True),),
}


def read_details(status: bytes) -> StatusDetails:
    """Decode the serialized google.rpc.Status of a failed call."""
    try:
        any_messages = _parse("Status", status).details
    except DecodeError:
        return StatusDetails()
    found: dict[str, Any] = {}
    attempts: list[answer_pb2.Attempt] = []
    for any_message in any_messages:
        name = any_message.type_url.rpartition("/")[2]
        try:
            match name:
                case "google.rpc.ErrorInfo":
                    info = _parse("ErrorInfo", any_message.value)
                    found["reason"], found["domain"] = info.reason, info.domain
                    found["info"] = {entry.key: entry.value for entry in info.metadata}
                case "google.rpc.RetryInfo":
                    delay = _parse("RetryInfo", any_message.value).retry_delay
                    found["retry_after"] = max(0.0, delay.seconds + delay.nanos / 1e9)
                case "google.rpc.BadRequest":
                    refused = _parse("BadRequest", any_message.value).field_violations
                    found["violations"] = tuple(Violation(one.field, one.description) for one in refused)
                case "google.rpc.QuotaFailure":
                    spent = _parse("QuotaFailure", any_message.value).violations
                    found["quota"] = tuple(QuotaViolation(one.subject, one.description) for one in spent)
                case "gearshift.v1.Attempt":
                    attempts.append(answer_pb2.Attempt.FromString(any_message.value))
                case "gearshift.v1.Completion":
                    attempts.extend(answer_pb2.Completion.FromString(any_message.value).attempts)
                case _:
                    pass
        except DecodeError:
            continue
    details = tuple(Detail(one.type_url.rpartition("/")[2], one.value) for one in any_messages)
    return StatusDetails(**found, attempts=tuple(attempts), details=details)


def _parse(name: str, data: bytes) -> Any:
    return _CLASSES[name].FromString(data)


def _classes() -> dict[str, Any]:
    """Make the message classes in a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, duration_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="gearshift/clients/google_rpc.proto",
        package="google.rpc",
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name, duration_pb2.DESCRIPTOR.name],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, repeated in fields:
            field = message.field.add(
                name=field_name, number=number, label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            )
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}")) for name in _MESSAGES
    }


_CLASSES: Final = _classes()
