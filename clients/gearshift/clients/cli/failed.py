"""Prints a failed call on standard error: for people, or as one JSON document in a line."""

from __future__ import annotations

import json
import sys

from google.protobuf.json_format import MessageToDict

from gearshift.clients.cli import exits, render
from gearshift.clients.cli.terminal import Palette
from gearshift.clients.errors import RpcError


def print_failure(error: RpcError, palette: Palette, *, is_json: bool) -> None:
    """Say what went wrong, and what to do where that is known."""
    if is_json:
        document = {
            "code": error.code.name,
            "reason": error.reason,
            "message": error.message,
            "retry_after_seconds": error.retry_after,
            "info": dict(error.info),
            "violations": [{"field": one.field, "description": one.description} for one in error.violations],
            "quota": [{"subject": one.subject, "description": one.description} for one in error.quota],
            "attempts": [MessageToDict(one, preserving_proto_field_name=True) for one in error.attempts],
        }
        print(json.dumps({"error": document}, ensure_ascii=False), file=sys.stderr)
        return
    print(render.failure(error, palette), file=sys.stderr)
    if exits.exit_code_of(error) == exits.NO_CONNECTION:
        print("  is the server running? start one with: gearshift serve", file=sys.stderr)
    elif error.code.name == "RESOURCE_EXHAUSTED" and not error.reason and "larger than max" in error.message:
        print("  the message is longer than the server takes: server.max_message_bytes", file=sys.stderr)
    elif error.code.name in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        print("  put a key into GEARSHIFT_API_KEY, or name its variable with --api-key-env", file=sys.stderr)
