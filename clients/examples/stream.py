#!/usr/bin/env python3
"""One answer as it is written, and what is taken back on the way.

python clients/examples/stream.py [host:port]
"""

from __future__ import annotations

import sys

import anyio

from gearshift.clients import Accumulator, RpcError, StreamProtocolError, background, call, dial


async def main(target: str) -> int:
    """Print each event that changes what a reader sees."""
    asked = call("docs-help", "Tell me how a gearbox works.", task_type="generate")
    answer = Accumulator()
    async with dial(target) as client, client.stream_route(background().with_timeout(30), asked) as stream:
        try:
            async for event in stream:
                text = answer.apply(event)
                if text is None:  # something was taken back: what stands now is answer.text
                    print(f"\n-- taken back: {event.retract.reason}")
                    print(answer.text, end="", flush=True)
                elif text:
                    print(text, end="", flush=True)
                elif event.HasField("switch"):
                    print(f"\n-- {event.switch.to_stage.model} takes over: {event.switch.reason}")
            whole = answer.finish()  # a stream without its end is a partial; so is one whose digest differs
        except RpcError as error:
            print(f"\nfailed: {error}", file=sys.stderr)
            return 1
        except StreamProtocolError as error:
            print(f"\nnot to be trusted ({error.rule}): {error}", file=sys.stderr)
            return 1
    print(f"\n-- {len(whole.completion.attempts)} attempts, {whole.completion.cost.total_usd} USD")
    return 0


if __name__ == "__main__":
    sys.exit(anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
