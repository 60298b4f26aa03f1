"""Gearshift: a real `gearshift.yaml`, a real process, asked over gRPC with the Python client.

Runs are spread over LANES models that stand for the same simulated ones: breakers and Retry-After belong to a model, and
none may spare a run its fault.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import anyio

from bench.common.process import Process, free_port
from bench.faults.gateway import FIRST_TOKEN_S, IDLE_S, Spent
from bench.faults.openai_client import DEADLINE_S
from bench.faults.provider import INPUT_USD, OUTPUT_USD, Providers, wire_model
from bench.faults.work import GONE, PRIMARY, SCHEMA, SCHEMA_NAME, SECONDARY, Heard, Question
from gearshift.clients import Accumulator, Client, RpcError, StreamProtocolError, background, call, dial
from gearshift.v1 import answer_pb2, call_pb2

LANES = 64
_CONFIG = """\
version: 1
providers:
{providers}
models:
{models}
chains:
{chains}
tasks:
  strict: true
  declared:
{tasks}
defaults: {{deadline_s: {deadline}}}
ledger: {{path: "{ledger}"}}
server: {{port: {port}, http: false, max_calls: 256}}
"""
_PROVIDER = """\
  {name}:
    kind: openai
    dialect: openai
    base_url: {url}
    api_key: bench
    breaker: {{consecutive_faults: 1000, fault_rate: 1, window: 10000, open_s: 0.001, max_open_s: 0.001, authentication_open_s: 0.001}}
"""
_MODEL = (
    "  {name}-{lane}: {{provider: {name}, wire_id: {wire}, capability: {capability}, context_tokens: 128000, "
    "features: [json_schema, json_object, logprobs, temperature, seed], "
    "prices: {{input_usd: {input}, output_usd: {output}}}}}"
)
_CHAIN = """\
  {form}-{name}-{lane}:
    stages:
      - {{provider: {name}, model: {name}-{lane}, max_retries: 0, timeouts: {timeouts}}}
      - {{provider: {healthy}, model: {healthy}-{lane}, max_retries: 0, timeouts: {timeouts}}}
"""
_TASK = "    {type}-{form}-{name}-{lane}: {{type: {type}, complexity: low, chain: {form}-{name}-{lane}}}"
_TIMEOUTS = {
    "stream": f"{{first_token_s: {FIRST_TOKEN_S}, idle_s: {IDLE_S}}}",
    "unary": f"{{first_token_s: {FIRST_TOKEN_S}, idle_s: {IDLE_S}, total_s: {FIRST_TOKEN_S}}}",
}
_ESTIMATED = "estimated"
_WRITTEN_S = 0.25


class Gearshift:
    """Gearshift."""

    name = "gearshift"
    runs = 1000
    in_flight = 16
    settings = (
        (
            "A chain of two stages, the second more capable; streams with their defaults (hold back 32 tokens or 400 ms, "
            "regenerate)."
        ),
        (
            "`timeouts: {first_token_s: 2, idle_s: 2}` at each stage. A whole answer has no first token that could be seen, so "
            "the chains for whole answers say `total_s: 2` too."
        ),
        "`max_retries: 0`; the breaker is kept from opening, so that every run meets the fault.",
        (
            "JSON is asked for with its schema, text as `generate`. Spend is what stands in the ledger; rows whose tokens "
            "nobody reported say `estimated` and are told apart."
        ),
    )

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return f"gearshift {version('gearshift')}, grpcio {version('grpcio')}"

    @asynccontextmanager
    async def running(self, providers: Providers, folder: Path) -> AsyncGenerator[_Running]:
        own = folder / "gearshift"
        own.mkdir(exist_ok=True)
        port = free_port()
        ledger = own / "ledger.db"
        config = own / "gearshift.yaml"
        config.write_text(_config(providers, port, ledger), encoding="utf-8")
        command = [sys.executable, "-m", "gearshift.server", "serve", "--config", str(config)]
        process = Process(self.name, command, port, folder / "gearshift.log")
        try:
            await process.start()
            async with dial(f"127.0.0.1:{port}") as client:
                yield _Running(client, ledger)
        finally:
            process.stop()


class _Running:
    def __init__(self, client: Client, ledger: Path) -> None:
        self._client = client
        self._ledger = ledger
        self._last_row = 0

    async def ask(self, question: Question) -> Heard:
        heard = Heard()
        began = time.perf_counter()
        try:
            if question.mode.stream:
                await self._stream(question, heard, began)
            else:
                answer = await self._client.route(background().with_timeout(DEADLINE_S), _call(question))
                heard.text = answer.text
                _judge(answer.completion, heard)
        except RpcError as error:
            heard.error = f"{error.code.name} {error.reason}: {error}"[:300]
        except StreamProtocolError as error:
            heard.error = f"the stream broke its contract: {error}"
        heard.latency_s = time.perf_counter() - began
        return heard

    async def spent(self) -> list[Spent] | None:
        """Read the new rows of the ledger, once no more come."""
        with sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True) as ledger:
            last = -1
            while last != (last := ledger.execute("SELECT max(id) FROM attempts").fetchone()[0] or 0):
                await anyio.sleep(_WRITTEN_S)
            rows = ledger.execute(
                "SELECT cost_pico, usage_source FROM attempts WHERE id > ? AND id <= ?", (self._last_row, last)
            ).fetchall()
        self._last_row = last
        return [Spent(usd=Decimal(pico or 0) / 10**12, estimated=source == _ESTIMATED) for pico, source in rows]

    async def _stream(self, question: Question, heard: Heard, began: float) -> None:
        answer = Accumulator()
        try:
            async with self._client.stream_route(background().with_timeout(DEADLINE_S), _call(question)) as stream:
                async for event in stream:
                    heard.retracts += event.HasField("retract")
                    if answer.apply(event) and heard.first_text_s is None:
                        heard.first_text_s = time.perf_counter() - began
        finally:
            heard.text = answer.text
        if answer.completed is None:
            heard.error = "the stream ended without `completed`"
            return
        if not answer.digest_matches():
            heard.error = "the digest is not the text's"
            return
        _judge(answer.completed.completion, heard)


def _judge(completion: answer_pb2.Completion, heard: Heard) -> None:
    heard.finish = answer_pb2.FinishReason.Name(completion.finish_reason).removeprefix("FINISH_REASON_").lower()
    if completion.outcome != answer_pb2.OUTCOME_ACCEPTED:
        verdicts = [f"{one.gate}: {one.reason or one.detail}" for one in completion.verdicts if one.result > 1]
        outcome = answer_pb2.Outcome.Name(completion.outcome).removeprefix("OUTCOME_").lower().replace("_", " ")
        heard.error = f"marked as {outcome}: {'; '.join(verdicts)}"[:300]


def _call(question: Question) -> call_pb2.Call:
    kind = "extract" if question.mode.json else "generate"
    form = "stream" if question.mode.stream else "unary"
    task = f"{kind}-{form}-{GONE if question.gone else PRIMARY}-{question.lane % LANES}"
    if question.mode.json:
        return call(task, question.prompt, schema=SCHEMA, schema_name=SCHEMA_NAME)
    return call(task, question.prompt)


def _config(providers: Providers, port: int, ledger: Path) -> str:
    names = (PRIMARY, SECONDARY, GONE)
    lanes = range(LANES)
    return _CONFIG.format(
        providers="".join(_PROVIDER.format(name=name, url=providers.base_urls[name]) for name in names),
        models="\n".join(
            _MODEL.format(
                name=name,
                lane=lane,
                wire=wire_model(name),
                capability="high" if name == SECONDARY else "medium",
                input=INPUT_USD[name],
                output=OUTPUT_USD[name],
            )
            for name in names
            for lane in lanes
        ),
        chains="".join(
            _CHAIN.format(form=form, timeouts=timeouts, name=name, lane=lane, healthy=SECONDARY)
            for form, timeouts in _TIMEOUTS.items()
            for name in (PRIMARY, GONE)
            for lane in lanes
        ),
        tasks="\n".join(
            _TASK.format(type=kind, form=form, name=name, lane=lane)
            for kind in ("generate", "extract")
            for form in _TIMEOUTS
            for name in (PRIMARY, GONE)
            for lane in lanes
        ),
        deadline=DEADLINE_S,
        ledger=ledger,
        port=port,
    )


GATEWAY = Gearshift()
