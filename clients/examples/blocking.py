#!/usr/bin/env python3
"""The client for programs without async: what would be decided, a document that fits a schema, and a stream.

python clients/examples/blocking.py [host:port]
"""

from __future__ import annotations

import json
import sys

from gearshift.clients import background, call
from gearshift.clients.sync import dial

SCHEMA = {
    "type": "object",
    "properties": {"number": {"type": "string"}, "total": {"type": "number"}, "currency": {"type": "string"}},
    "required": ["number", "total", "currency"],
    "additionalProperties": False,
}


def main(target: str) -> int:
    """Explain, extract, stream, report."""
    asked = call("invoices", "Read this invoice: no. 2026-118, 118.40 EUR.", schema=SCHEMA)
    with dial(target) as client:
        ctx = background().with_timeout(30)
        explained = client.explain(ctx, asked)
        planned = [f"{one.stage.provider}/{one.stage.model}" for one in explained.stages if one.planned]
        print(f"would ask {', then '.join(planned)}")
        answer = client.route(ctx, asked)
        print(json.loads(answer.text))
        client.report_outcome(ctx, answer.request_id, "accepted")
        with client.stream_route(ctx, call("stories", "Tell me a story.", task_type="generate")) as stream:
            print(stream.fold().text)  # read to the end, checked
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
