"""The plan file: which providers are simulated, what they answer, and how they fail.

Rules: plain values with their defaults; unknown fields are errors; every problem is told with its line. A plan says all
that happens: with the same seed, the same requests get the same answers and the same faults.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from gearshift.core.catalogue.price import Rates
from gearshift.core.config.decode import Decoder
from gearshift.core.config.document import MOST_BYTES, read_document
from gearshift.core.config.problems import Report
from gearshift.core.errors import ConfigError
from gearshift.server.simulator.faults import Fault, FaultKind, fault

Share = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0, le=3_600_000)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
Usd = Annotated[Decimal, Meta(extra={"minimum": 0})]
WireWord = Annotated[str, Meta(extra={"words": ("openai", "anthropic", "ollama", "voyage")})]
UsageWord = Annotated[str, Meta(extra={"words": ("end", "cumulative", "none")})]
FormWord = Annotated[str, Meta(extra={"words": ("", "stream", "unary", "embed")})]


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping in the file."""


class LatencyPlan(_Section, frozen=True, kw_only=True):
    """How fast a provider writes."""

    first_token_ms: Milliseconds = 0.0
    """Until the first token."""
    token_ms: Milliseconds = 0.0
    """Between two tokens."""
    jitter: Share = 0.0
    """How much each wait differs: 0.2 is up to a fifth shorter or longer."""


class PricePlan(_Section, frozen=True, kw_only=True):
    """USD for a million tokens."""

    input_usd: Usd = Decimal(0)
    output_usd: Usd = Decimal(0)
    cache_read_usd: Usd | None = None
    """For input that the provider's cache had; unset costs as input."""

    @property
    def rates(self) -> Rates:
        """The same as exact money.

        Raises:
            ValueError: a price is finer than six decimals.
        """
        return Rates(input_usd=self.input_usd, output_usd=self.output_usd, cache_read_usd=self.cache_read_usd)


class ModelPlan(_Section, frozen=True, kw_only=True):
    """A model; unset fields are the provider's."""

    prices: PricePlan = PricePlan()
    quality: Share | None = None
    latency: LatencyPlan | None = None
    dimensions: Annotated[int, Meta(ge=1, le=4096)] = 8
    """Length of its vectors, unless the request asks for another."""


class FaultPlan(_Section, frozen=True, kw_only=True):
    """When a fault happens. The first whose conditions hold and whose draw hits counts."""

    fault: str
    """Such as `cut@7`, `stall@5:30`, `rate_limited:2`."""
    probability: Share = 1.0
    """Share of the requests that it hits, drawn from the seed and the request."""
    model: str = ""
    contains: str = ""
    """Text that the prompt must hold."""
    only: FormWord = ""
    """`stream`, `unary` or `embed`; empty is all."""
    requests: tuple[Annotated[int, Meta(ge=1, le=1_000_000_000)], ...] = ()
    """Ordinals of the provider's requests, from 1, in the order in which they come; empty is all."""
    repeats: tuple[Annotated[int, Meta(ge=1, le=1_000_000_000)], ...] = ()
    """How many times the same request has come, from 1: `[1]` fails the first try and lets the retry through."""


class ProviderPlan(_Section, frozen=True, kw_only=True):
    """One simulated provider."""

    wire: WireWord
    """The wire format that it speaks."""
    port: Port | None = None
    """A port of its own; 0 takes a free one; unset is the simulator's port, under /p/<name>."""
    down: bool = False
    """Its own port refuses connections."""
    models: dict[Name, ModelPlan] = field(default_factory=dict[str, ModelPlan])
    """By the name on the wire; none at all takes every name, free of charge."""
    latency: LatencyPlan = LatencyPlan()
    quality: Share = 1.0
    """Share of the answers that are right: the right label, valid JSON, text without doubt."""
    logprobs: bool = True
    """Whether log-probabilities are given when they are asked for; Anthropic has none."""
    usage: UsageWord = "end"
    """When tokens are counted: at the end, with every token (`cumulative`), or never (`none`)."""
    cached: Share = 0.0
    """Share of each prompt's tokens that the provider's cache has; OpenAI's and Anthropic's formats tell of it."""
    tokens_per_frame: Annotated[int, Meta(ge=1, le=1000)] = 1
    write_bytes: Annotated[int, Meta(ge=0, le=65_536)] = 0
    """Cut every write into pieces of so many bytes, to try readers; 0 leaves frames whole."""
    characters_per_token: Annotated[float, Meta(ge=0.1, le=100)] = 4.0
    """Of prompts: input tokens are characters divided by this, and 8."""
    faults: tuple[FaultPlan, ...] = ()


class AnswerPlan(_Section, frozen=True, kw_only=True):
    """An answer, for requests that fit every condition. The first that fits counts."""

    provider: str = ""
    model: str = ""
    contains: str = ""
    """Text that the prompt must hold."""
    header: str = ""
    """A request header, as `name: value`; a name alone fits any value."""
    text: str = ""
    """The answer."""
    poor: str = ""
    """What is answered instead when the draw against `quality` fails; empty is a text full of doubt."""
    words: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Instead of `text`: so many words, drawn from the seed and the prompt."""
    label: str = ""
    """The right label, where labels are asked for."""
    json: Any = None
    """The right document, where JSON is asked for."""


class Plan(_Section, frozen=True, kw_only=True):
    """The whole file."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    providers: dict[Name, ProviderPlan]
    answers: tuple[AnswerPlan, ...] = ()


def load_plan(path: str | Path) -> Plan:
    """Read a plan file.

    Raises:
        ConfigError: it cannot be read, or holds problems.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or 'I/O error'}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 text"]) from error
    return parse_plan(text, str(path))


def parse_plan(text: str, source: str = "plan.yaml") -> Plan:
    """Read a plan; `source` is the name that problems begin with.

    Raises:
        ConfigError: it holds problems.
    """
    report = Report(source)
    root = read_document(text, report)
    if root is None:
        report.raise_problems()
        raise ConfigError([f"{source}: is empty; a plan needs `providers`"])
    decoder = Decoder(report, {})
    plan = decoder.read(root, Plan)
    report.raise_problems()
    if plan is None:
        raise ConfigError([f"{source}: is not a plan"])
    checked = Report(source, decoder.positions)
    check_plan(plan, checked)
    checked.raise_problems()
    return plan


def check_plan(plan: Plan, report: Report) -> None:
    """Note what only shows across fields."""
    if not plan.providers:
        report.error(("providers",), "must not be empty")
    for name, provider in plan.providers.items():
        place = ("providers", name)
        if "/" in name or ":" in name:
            report.error(place, "a provider's name stands in addresses: letters, digits and . _ - only")
        if provider.down and provider.port is None:
            report.error((*place, "down"), "only a provider with a `port` of its own can refuse connections")
        for model, each in provider.models.items():
            try:
                _ = each.prices.rates
            except ValueError as error:
                report.error((*place, "models", model, "prices"), str(error))
        for number, rule in enumerate(provider.faults):
            _check_fault(rule, provider, (*place, "faults", number), report)


def _check_fault(rule: FaultPlan, provider: ProviderPlan, place: tuple[str | int, ...], report: Report) -> None:
    try:
        read = fault(rule.fault)
    except ValueError as error:
        report.error((*place, "fault"), str(error))
        return
    facts = read.facts
    if read.kind is FaultKind.REFUSED:
        report.error((*place, "fault"), "a refused connection has no request: write `down: true` at the provider")
    elif facts.wires and provider.wire not in facts.wires:
        report.error((*place, "fault"), f"{read.kind.value} does not exist in the {provider.wire} format")


def faults_of(provider: ProviderPlan) -> tuple[tuple[FaultPlan, Fault], ...]:
    """Give a provider's rules with their faults read; those of a checked plan raise nothing."""
    return tuple((rule, fault(rule.fault)) for rule in provider.faults)


def model_of(provider: ProviderPlan, name: str) -> ModelPlan | None:
    """Give a model by its name on the wire; None when the provider lacks it."""
    models: Mapping[str, ModelPlan] = provider.models
    return models.get(name, None if models else _FREE)


_FREE = ModelPlan()
