"""Many mixed calls of simulated providers, and the ledger's rows beside what the simulator billed for each of them.

    bill = await billed_calls(500, path, seed=1)
    assert not bill.wrong

Streams and unary calls, faults of every kind that takes no time, cache reads, escalations, fallbacks, second looks and
callers that leave in the middle. Each attempt is found again in the simulator's account by its prompt, model and turn.
"""

from __future__ import annotations

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import anyio

from gearshift.core.catalogue import from_pico, to_pico
from gearshift.core.errors import RouteError
from gearshift.core.ledger import SqliteLedger
from gearshift.core.request import StreamPolicy
from gearshift.core.router import Router
from gearshift.server.recording import LedgerObserver
from gearshift.server.simulator import Entry, parse_plan, running_simulator
from gearshift.server.simulator.draws import Draws
from tests.support.engine import request
from tests.support.running_server import from_yaml

_CHUNK = 5_000  # calls after which the simulator's account is read: it forgets single requests
_FAULTS = (
    "cut", "close", "no_end", "no_done", "no_usage", "reset", "429", "500", "503", "529", "empty", "html", "malformed",
    "invalid_utf8", "error_in_stream", "duplicate", "loop", "refusal", "filtered", "unsure",
)  # fmt: skip
_OF_OPENAI = frozenset({"no_done", "filtered", "unsure"})

_MODELS = {"small": ("0.05", "0.10", "0.0125"), "middle": ("0.30", "1.50", "0.03"), "large": ("3", "15", "0.3")}
"""USD for a million tokens: input, output, cache read."""

_CONFIG = """
version: 1
providers:
  cheap: {{kind: openai, dialect: compatible, base_url: "{cheap}", breaker: &never {{consecutive_faults: 1000, fault_rate: 1, window: 10000}}}}
  fair: {{kind: openai, dialect: compatible, base_url: "{fair}", breaker: *never}}
  strong: {{kind: anthropic, base_url: "{strong}", breaker: *never}}
models:
  small: {{provider: cheap, capability: medium, features: [json_object, logprobs, temperature, seed], prices: {small}}}
  middle: {{provider: fair, capability: medium, features: [logprobs, temperature, seed], prices: {middle}}}
  large: {{provider: strong, capability: high, prices: {large}}}
chains:
  generate:
    stages:
      - {{provider: cheap, model: small, max_retries: 1}}
      - {{provider: fair, model: middle, max_retries: 0}}
      - {{provider: strong, model: large, max_retries: 1}}
defaults: {{complexity: {{generate: low}}}}
retry: {{base_s: 0.001, max_s: 0.002}}
"""


@dataclass(slots=True)
class Side:
    """Attempts of one trust, on both sides, whole pico-USD and tokens."""

    attempts: int = 0
    ledger_pico: int = 0
    billed_pico: int = 0
    ledger_tokens: int = 0
    billed_tokens: int = 0

    @property
    def error(self) -> float:
        """How far the ledger is from the bill, as a share of it."""
        return (self.ledger_pico - self.billed_pico) / self.billed_pico if self.billed_pico else 0.0

    def text(self) -> str:
        """Give it as a line."""
        return (
            f"{self.attempts} attempts, ledger {from_pico(self.ledger_pico)} USD and {self.ledger_tokens} tokens, billed "
            f"{from_pico(self.billed_pico)} USD and {self.billed_tokens} tokens, error {self.error:+.4%}"
        )


@dataclass(slots=True)
class Bill:
    """What came of it.

    Args:
        sides: by usage source.
        wrong: reported or counted attempts that differ from the bill, and requests without a row: a line each.
        rows: ledger rows; `outcomes` and `faults` count them and the simulator's requests.
        billed_usd: all of the simulator's account; `ledger_usd`: all rows.

    """

    calls: int
    sides: dict[str, Side] = field(default_factory=lambda: defaultdict(Side))
    wrong: list[str] = field(default_factory=list[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    causes: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    rows: int = 0
    cached_tokens: int = 0
    billed_usd: Decimal = Decimal(0)
    ledger_usd: Decimal = Decimal(0)


async def billed_calls(
    calls: int, path: Path, *, seed: int, at_once: int = 32, told: Callable[[str], object] | None = None
) -> Bill:
    """Make the calls and compare; the ledger's file is new."""
    chance = random.Random(seed)
    bill = Bill(calls)
    entries: dict[str, list[Entry]] = defaultdict(list)
    async with running_simulator(parse_plan(billed_plan()), seed=seed) as simulator:
        urls = simulator.base_urls
        blueprint = from_yaml(billed_config(urls))
        async with SqliteLedger(str(path)) as ledger:
            observer = LedgerObserver(ledger, track_fallback_costs=True)
            async with Router(blueprint, observers=[observer], seed=seed) as router:
                for start in range(0, calls, _CHUNK):
                    numbers = iter(range(start, min(start + _CHUNK, calls)))
                    async with anyio.create_task_group() as tasks:
                        for _ in range(at_once):
                            tasks.start_soon(_caller, router, numbers, chance)
                    while simulator.statistics()["playing"]:
                        await anyio.sleep(0.005)
                    for entry in simulator.account.entries:
                        entries[entry.key].append(entry)
                        bill.faults[entry.fault.partition("@")[0].partition(":")[0] or "none"] += 1
                        bill.cached_tokens += entry.cached_tokens
                    bill.billed_usd += simulator.account.billed_usd
                    simulator.account.reset()
                    if told is not None:
                        told(f"{min(start + _CHUNK, calls)} of {calls} calls")
            await ledger.flush()
    compare_bill(bill, path, entries)
    return bill


async def _caller(router: Router, numbers: Iterator[int], chance: random.Random) -> None:
    for number in numbers:
        asked = request(billed_prompt(number), request_id=f"c{number}", task_id=f"task-{number % 5}")
        try:
            if number % 4 == 0:
                await router.route(asked)
                continue
            leaves_after = chance.randrange(1, 12) if number % 10 == 3 else None
            streamed = request(
                billed_prompt(number), request_id=f"c{number}", task_id=f"task-{number % 5}", stream=StreamPolicy()
            )
            read = 0
            async with aclosing(router.stream(streamed)) as stream:
                async for _ in stream:
                    read += 1
                    if leaves_after is not None and read >= leaves_after:
                        break
        except RouteError:
            continue  # the chain came to its end: its attempts have their rows


def billed_config(urls: Mapping[str, str]) -> str:
    """Give the configuration of a service on these providers."""
    prices = {
        name: f"{{input_usd: {given}, output_usd: {made}, cache_read_usd: {read}}}"
        for name, (given, made, read) in _MODELS.items()
    }
    return _CONFIG.format(**urls, **prices)


def billed_prompt(number: int) -> str:
    """Give the prompt of a call, by which it is found again."""
    return f"Reader {number} asks what a gearbox is for. {'Please be patient with me. ' * (number % 7)}"


def billed_plan() -> str:
    """Give the simulator's plan."""
    providers: list[str] = []
    for name, wire, model in (
        ("cheap", "openai", "small"),
        ("fair", "openai", "middle"),
        ("strong", "anthropic", "large"),
    ):
        given, made, read = _MODELS[model]
        share = 0.02 if name != "strong" else 0.005
        faults = ", ".join(
            f'{{fault: "{fault}", probability: {share}}}'
            for fault in _FAULTS
            if wire == "openai" or fault not in _OF_OPENAI
        )
        providers.append(
            f"  {name}: {{wire: {wire}, cached: {0.4 if name != 'fair' else 0}, "
            f"models: {{{model}: {{prices: {{input_usd: {given}, output_usd: {made}, cache_read_usd: {read}}}}}}}, "
            f"faults: [{faults}]}}"
        )
    return "\n".join(["providers:", *providers, "answers:", "  - {words: 40}"])


def compare_bill(bill: Bill, path: Path, entries: Mapping[str, Sequence[Entry]]) -> None:
    """Fill the bill in from a ledger's file and the simulator's entries by their keys."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute(
            "SELECT request_id, model, number, usage_source, cost_pico, input_tokens, output_tokens, cache_read_tokens, "
            "outcome, cause, failure FROM attempts ORDER BY request_id, model, number"
        ).fetchall()
    bill.rows = len(found)
    turns: Counter[tuple[str, str]] = Counter()
    for name, model, number, source, pico, given, made, cached, outcome, cause, failure in found:
        bill.outcomes[outcome] += 1
        bill.causes[cause] += 1
        bill.ledger_usd += from_pico(pico or 0)
        turn = turns[name, model]
        turns[name, model] += 1
        key = Draws(model, False, "", billed_prompt(int(name[1:])), "").hex(16)
        booked = sorted(entries.get(key, ()), key=lambda entry: entry.repeat)
        entry = booked[turn] if turn < len(booked) else None
        side = bill.sides[source]
        side.attempts += 1
        side.ledger_pico += pico or 0
        side.ledger_tokens += given + made
        if entry is not None:
            side.billed_pico += to_pico(entry.billed_usd)
            side.billed_tokens += entry.input_tokens + entry.output_tokens
        if source == "estimated":
            continue
        wanted = (0, 0, 0, 0) if entry is None else (
            to_pico(entry.billed_usd), entry.input_tokens, entry.output_tokens, entry.cached_tokens
        )  # fmt: skip
        if (pico, given, made, cached) != wanted:
            what = "nothing" if entry is None else f"{entry.fault or 'no fault'}, {entry.form}, {entry.end}"
            bill.wrong.append(
                f"{name} #{number} {model} {source} {outcome} {failure or ''}: ledger {(pico, given, made, cached)}, billed "
                f"{wanted} ({what})"
            )
    matched = sum(turns.values())
    asked = sum(len(each) for each in entries.values())
    if asked > matched:
        bill.wrong.append(f"the simulator had {asked} requests, the ledger has {matched} rows")
