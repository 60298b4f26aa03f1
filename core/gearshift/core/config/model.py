"""The configuration, as it stands in gearshift.yaml.

Rules: plain values with their defaults; unknown fields are errors; every default here is the documented one, and each
field's text here is its line in docs/configuration.md. What can only be seen across fields (a stage's provider exists,
a chain is not empty) is checked in `check.py` and while building. `repr` hides keys.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct, field

from gearshift.core.catalogue.model import Feature
from gearshift.core.words import Complexity, Sensitivity, SwitchMode, TaskType, WordEnum


def _one_of(*words: str) -> Meta:
    """Say that a text must be one of these words."""
    return Meta(extra={"words": words})


def _word_of(kind: type[WordEnum]) -> Meta:
    """Say that a text must be a word of this enumeration."""
    return _one_of(*(each.word for each in kind))


Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Amount = Annotated[float, Meta(gt=0, le=1e12)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]
Usd = Annotated[Decimal, Meta(extra={"minimum": 0})]
"""Read exactly as written, never through a float."""
Secret = Annotated[str, Meta(extra={"secret": True})]
"""Text that may hold `${NAME}` and is never printed."""
TaskTypeWord = Annotated[str, _word_of(TaskType)]
ComplexityWord = Annotated[str, _word_of(Complexity)]
SensitivityWord = Annotated[str, _word_of(Sensitivity)]
ModeWord = Annotated[str, _one_of(*(each.word for each in SwitchMode if each is not SwitchMode.RESTORE))]
ConfidenceWord = Annotated[str, _one_of("logprobs", "answer")]
OpenAiStreamWord = Annotated[str, _one_of("continue", "fail", "hold_all")]
DialectWord = Annotated[str, _one_of("", "openai", "groq", "deepseek", "vllm", "llamacpp", "compatible")]
CheckWord = Annotated[
    str, _one_of("arithmetic", "conclusion", "contradiction", "emptiness", "language", "source", "structure")
]
EffectWord = Annotated[str, _one_of("reject", "note", "off")]
FeatureWord = Annotated[str, _one_of(*(each.value for each in Feature))]

EXPIRY_PATTERN = r"^(\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}Z)?)?$"
"""A day, or a second, in UTC; empty is never."""
ENDPOINT_PATTERN = r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$"
"""Base URL of a collector; empty is the default of its protocol."""

SECRET_FIELDS = frozenset({"api_key", "headers", "url"})
"""Fields that `repr` hides; the same that hold `Secret`."""


STOP = "stop"
"""What `on_exhausted` says where calls are refused."""


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping in the file; an unknown field is an error."""

    def __repr__(self) -> str:
        """Show every field but the secret ones."""
        shown = (
            f"{name}={'…' if name in SECRET_FIELDS and getattr(self, name) else repr(getattr(self, name))}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class LimitsConfig(_Section, frozen=True, kw_only=True):
    """Token buckets: what a minute refills, and how much may run at once. Unset is no limit."""

    requests_per_minute: Amount | None = None
    """Calls in a minute."""
    tokens_per_minute: Amount | None = None
    """Model tokens in a minute, input and output together."""
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """Calls at once."""
    usd_per_day: Usd | None = None
    """Spending in a UTC day; calls whose token price is unknown are refused under it. Without `shared.redis` each process
    counts for itself, from its start."""
    usd_per_month: Usd | None = None
    """Spending in a UTC calendar month, as `usd_per_day`."""
    burst_s: Seconds = 60.0
    """Capacity of the minute buckets, as seconds of their refill."""
    pace: Amount | None = None
    """Requests a second to space outbound calls evenly (aiolimiter), in each process; unset sends as they come."""
    on_overrun: Annotated[str, _one_of("extend", "stop")] = "extend"
    """A running stream that has used up what it reserved of model tokens or money reserves one window
    (`gates.window_tokens`) more at a time, and ends when there is none left; or ends at once."""
    when_away: Annotated[str, _one_of("local", "closed", "open")] = "local"
    """While the shared store is away: keep this process's share of the limits, refuse, or let everything through. Money
    is kept to what the process holds ahead (`shared.money_lease`), also under `open`."""


class BreakerConfig(_Section, frozen=True, kw_only=True):
    """When an account and model is taken out of use."""

    consecutive_faults: Annotated[int, Meta(ge=1, le=1000)] = 5
    """Opens after this many faults in a row."""
    fault_rate: Share = 0.5
    """Opens when this share of the last `window` outcomes were faults."""
    window: Annotated[int, Meta(ge=4, le=10_000)] = 20
    """Outcomes that `fault_rate` looks back on."""
    open_s: Seconds = 5.0
    """How long it stays open before one probe is let through; doubled on each failed probe up to `max_open_s`."""
    max_open_s: Seconds = 60.0
    """The longest that it stays open between probes."""
    authentication_open_s: Seconds = 300.0
    """How long it stays open after the provider refused the key."""


class TimeoutsConfig(_Section, frozen=True, kw_only=True):
    """How long one attempt may take."""

    connect_s: Seconds = 5.0
    """Until the connection stands."""
    first_token_s: Seconds = 30.0
    """Until the first token has come."""
    idle_s: Seconds = 15.0
    """Between two tokens."""
    total_s: Seconds = 120.0
    """In all."""


class RetryConfig(_Section, frozen=True, kw_only=True):
    """Full-jitter backoff: a wait of random(0, min(max_s, base_s * 2**n))."""

    base_s: Seconds = 0.25
    """Longest wait before the first retry."""
    max_s: Seconds = 8.0
    """Longest wait before a retry that the provider did not ask for, and before one that it did while other stages are left."""


class AccountConfig(_Section, frozen=True, kw_only=True):
    """One key or base URL at a provider."""

    name: Name
    """Unique within the provider; shown in metrics and the ledger."""
    api_key: Secret = ""
    """Empty uses the provider's."""
    base_url: str = ""
    """Empty uses the provider's."""
    weight: Amount = 1.0
    """Share of the calls, against the other accounts' weights."""
    limits: LimitsConfig | None = None
    """Limits of each model at this account; unset uses the provider's."""


class EmbeddedConfig(_Section, frozen=True, kw_only=True):
    """The embedded model's process."""

    model_path: str = ""
    """A GGUF file; empty is the Gemma 3 270M of the extra `embedded`."""
    sha256: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""
    """Expected digest of `model_path`; empty does not check it (the default model is always checked)."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Threads of the process; 0 is half the cores, since llama.cpp's threads wait for each other: one busy core stops all."""
    context_tokens: Annotated[int, Meta(ge=512, le=131_072)] = 8192
    """Context of one call, input and output together."""
    slots: Annotated[int, Meta(ge=1, le=64)] = 2
    """Calls that run at once."""


class PressureConfig(_Section, frozen=True, kw_only=True):
    """How it is told that a self-hosted machine is busy: kinds `ollama` and `embedded`, dialects `vllm` and `llamacpp`."""

    interval_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0
    """How often the machine is asked for its running and queued requests, while there are calls or somebody looks; 0 is
    never."""
    max_queued: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    """While more requests than this wait in it, its stages are passed over where another stage may serve; unset is
    never."""


class ProviderConfig(_Section, frozen=True, kw_only=True):
    """Where models run."""

    kind: str = ""
    """`anthropic`, `openai`, `ollama`, `voyage`, `embedded`, or the name of an entry point in `gearshift.providers`;
    empty is told from the provider's name."""
    dialect: DialectWord = ""
    """For kind `openai`, whose differences apply; empty is told from the name, else `compatible`."""
    base_url: str = ""
    """Where it is, such as `https://api.groq.com/openai/v1` or `unix:///run/model.sock`; empty is the kind's own
    documented one."""
    api_key: Secret = ""
    """The key, as `${NAME}` of an environment variable."""
    clearance: SensitivityWord = "internal"
    """The most sensitive task that it may see; `restricted` needs TLS or a path without network."""
    accounts: tuple[AccountConfig, ...] = ()
    """More than one key or base URL; empty is one account of the values above."""
    headers: dict[str, Secret] = field(default_factory=dict[str, str])
    """Headers of every call."""
    limits: LimitsConfig = LimitsConfig()
    """Limits of each model at each account that has none of its own."""
    breaker: BreakerConfig = BreakerConfig()
    """When an account and model is taken out of use."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """Of every stage that has none of its own."""
    cost_per_hour_usd: Usd | None = None
    """What the machine costs, for self-hosted models; unset is unknown, which is not zero."""
    parallelism: Annotated[float, Meta(gt=0, le=10_000)] = 1.0
    """Calls that a self-hosted machine runs at once, until it is measured."""
    pressure: PressureConfig = PressureConfig()
    """Of a self-hosted machine: how it is told that it is busy."""
    connections: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """Most connections held open."""
    embedded: EmbeddedConfig | None = None
    """For kind `embedded`: the model's process."""


class PriceConfig(_Section, frozen=True, kw_only=True):
    """Prices of a model that the catalogue does not know, USD for a million tokens."""

    input_usd: Usd
    """Input that no cache touched."""
    output_usd: Usd = Decimal(0)
    """Output; 0 is right for models that only embed."""
    cache_write_usd: Usd | None = None
    """Input written to the provider's cache; unset is the price of input."""
    cache_read_usd: Usd | None = None
    """Input read from the provider's cache; unset is the price of input."""


class ModelConfig(_Section, frozen=True, kw_only=True):
    """A model that the catalogue lacks, or what is to be different about one that it has (`like`)."""

    provider: str
    """A provider's name in this file; the model is known to all providers of the same kind and dialect."""
    like: str = ""
    """A catalogue model, or another entry here, to start from; the fields below override it."""
    wire_id: str = ""
    """The name that the provider knows it by; empty is that of `like`, else the entry's own name."""
    capability: ComplexityWord | None = None
    """The complexity that it can be trusted with; must be set without `like`."""
    context_tokens: Count | None = None
    """Input and output together; 0 is unknown."""
    max_output_tokens: Count | None = None
    """Longest answer; 0 is unknown."""
    features: tuple[FeatureWord, ...] | None = None
    """What it can do on the wire; unset is what its kind and dialect usually can."""
    prices: PriceConfig | None = None
    """Unset is unknown, which is not zero."""
    self_hosted: bool | None = None
    """It costs machine time instead of tokens; unset follows the kind and dialect."""
    vector_space: str | None = None
    """Name of the space of its vectors; models may share one. Unset, an embedding model has its own."""
    dimensions: tuple[Annotated[int, Meta(ge=1, le=65_536)], ...] | None = None
    """Lengths of vector that it can give, its own first; makes it an embedding model."""
    max_batch: Annotated[int, Meta(ge=1, le=4096)] | None = None
    """Most texts in one embedding call."""
    max_input_tokens: Count | None = None
    """Longest text that it embeds whole; 0 is unknown."""
    options: dict[str, str] | None = None
    """Settings of the adapter for this model; added to those of `like`."""


class StageConfig(_Section, frozen=True, kw_only=True):
    """One model on one provider, with its own policy."""

    provider: str
    """A provider's name in this file."""
    model: str
    """A catalogue id or alias, or an entry of `models`."""
    label: str = ""
    """Shown beside the model, to tell stages apart."""
    max_retries: Annotated[int, Meta(ge=0, le=10)] = 1
    """1 means at most two calls."""
    timeouts: TimeoutsConfig | None = None
    """Unset uses the provider's."""
    capability: ComplexityWord | None = None
    """Overrides the model's, for this chain."""
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Most tokens to write; a task or a caller may only ask for fewer."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """When neither caller nor task says."""
    extra_body: dict[str, object] = field(default_factory=dict[str, object])
    """Fields merged into the request's body last, as they stand."""
    cost_per_m: Usd | None = None
    """A note of what was once paid for a million tokens; never billed."""


class ChainPolicyConfig(_Section, frozen=True, kw_only=True):
    """Caps and thresholds; what is unset is taken from the level above: task, chain, `gates`, `defaults`."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    """Upstream calls for one request, retries and second looks too."""
    max_hops: Annotated[int, Meta(ge=0, le=100)] | None = None
    """Changes of stage for one request."""
    max_cost_usd: Usd | None = None
    """Spending on one request."""
    min_confidence: Share | None = None
    """Answers at or above it are accepted."""
    escalation_threshold: Share | None = None
    """Answers below it go to a stronger stage at once; not above `min_confidence`."""
    require_valid: bool | None = None
    """Fail rather than give back an answer that passed no gate."""
    require_confidence: bool | None = None
    """Escalate answers whose confidence cannot be measured."""
    second_look: bool | None = None
    """Let the same stage answer again between the two thresholds."""
    coherence: dict[CheckWord, EffectWord] = field(default_factory=dict[str, str])
    """What single checks do, as `gates.coherence`; a tenant's may only be stricter."""
    confidence: ConfidenceWord | None = None
    """What confidence is measured by, as `gates.confidence`; a tenant may ask for `answer`, not for less."""
    self_assessment: bool | None = None
    """Ask models to say, in a last line that is taken out, how sure they are (docs/quality.md): free text that nobody reads before
    its end. Off where nothing says otherwise; a tenant may only forbid it."""
    repair: bool | None = None
    """Let a stage mend a document that does not fit its schema, once, told what is wrong. Off where nothing says otherwise; a tenant
    may only forbid it."""


class StreamConfig(_Section, frozen=True, kw_only=True):
    """How streams are held back and switched, unless the caller says otherwise."""

    hold_back_tokens: Annotated[int, Meta(ge=0, le=4096)] = 32
    """Tokens that are judged before the first is sent; whichever of the two comes first."""
    hold_back_ms: Annotated[int, Meta(ge=0, le=60_000)] = 400
    """Milliseconds that the first token is held at most."""
    mode: ModeWord = "regenerate"
    """What follows a fault after text was sent: start again, continue the text, or fail with what there is."""
    escalate_at_end: bool = False
    """Take back a finished answer whose final confidence is poor."""


class AdaptiveConfig(_Section, frozen=True, kw_only=True):
    """What `order: adaptive` and `on_loss: refuse` weigh beside the price, and how fast that is learned."""

    second_usd: Usd = Decimal(0)
    """What a second of waiting is worth; 0 leaves latency out."""
    failure_usd: Usd = Decimal(0)
    """What a failed attempt costs beyond its bill and its time; 0 counts only those and the stages after it."""
    probe_share: Share = 0.02
    """Share of the calls that take the written order all the same, so that the figures of skipped stages stay fresh."""
    half_life_h: Annotated[float, Meta(gt=0, le=8760)] = 24.0
    """Hours after which what was measured counts half."""


class ChainConfig(_Section, frozen=True, kw_only=True):
    """Stages in the order in which they are tried."""

    stages: Annotated[tuple[StageConfig, ...], Meta(min_length=1, max_length=32)]
    """In the order in which they are tried; cheap to strong is usual."""
    order: Annotated[str, _one_of("written", "adaptive")] = "written"
    """`written`, or `adaptive`: by expected cost of an accepted answer."""
    adaptive: AdaptiveConfig | None = None
    """For `order: adaptive` and `on_loss: refuse`; unset is its defaults."""
    on_loss: Annotated[str, _one_of("tell", "refuse")] = "tell"
    """What becomes of a stage that costs more than it saves: `tell` names it in `check` and `Explain`; `refuse` leaves it out of
    calls, and `check` fails."""
    policy: ChainPolicyConfig = ChainPolicyConfig()
    """Caps and thresholds of this chain."""
    allow_space_change: bool = False
    """Embed chains: a fallback may answer in another vector space, which silently ruins an index that mixes them."""


class ExampleConfig(_Section, frozen=True, kw_only=True):
    """A text with its right answer: a label, or a JSON document."""

    text: str
    """What the model would be given."""
    label: str = ""
    """The right label."""
    json: str = ""
    """The right document, as JSON text."""


class OutputConfig(_Section, frozen=True, kw_only=True):
    """What the answer must look like: labels, or a JSON Schema."""

    labels: tuple[str, ...] = ()
    """The answer is exactly one of these."""
    json_schema: dict[str, object] | None = None
    """The answer is JSON that this schema (2020-12 or draft-07) accepts."""
    examples: tuple[ExampleConfig, ...] = ()
    """Shown to models that need them."""


class TaskCacheConfig(_Section, frozen=True, kw_only=True):
    """How accepted answers of a task are kept for equal calls; `cache: {}` turns it on."""

    ttl_minutes: Annotated[float, Meta(gt=0, le=525_600)] = 60.0
    """How long an answer is kept."""
    any_temperature: bool = False
    """Keep answers too that were drawn by chance: at a temperature above 0, or one that nobody set."""


class TaskConfig(_Section, frozen=True, kw_only=True):
    """A declared task."""

    type: TaskTypeWord
    """What kind of work it is."""
    complexity: ComplexityWord | None = None
    """The capability that a model must have; set, it drops weaker stages; unset, it is its type's (`defaults.complexity`) and
    only reorders them."""
    sensitivity: SensitivityWord | None = None
    """The clearance that a provider must have; tenant and caller may raise it. Unset leaves it to them, and is `internal` where
    they say nothing."""
    prompt: str = ""
    """The static system prompt; `{{name}}` is filled in by the caller's variables."""
    static: bool = False
    """Keep the prompt in the cache even if it looks as if values were pasted into it."""
    output: OutputConfig | None = None
    """Unset leaves it to the caller."""
    chain: str = ""
    """Empty is the chain of the task's type."""
    policy: ChainPolicyConfig = ChainPolicyConfig()
    """Caps and thresholds of this task."""
    stream: StreamConfig | None = None
    """Unset is the file's `stream`."""
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Most tokens to write; a caller may only ask for fewer."""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """Unless the caller says."""
    limits: LimitsConfig | None = None
    """Limits of this task, over all tenants."""
    on_exhausted: str = STOP
    """When `usd_per_day` or `usd_per_month` of its limits is spent: `stop`, or the name of a chain, as for a tenant."""
    cache: TaskCacheConfig | None = None
    """Keep accepted answers for equal calls of the same tenant; unset keeps none. Never for restricted tasks."""


class TasksConfig(_Section, frozen=True, kw_only=True):
    """Declared tasks, and whether others are served."""

    strict: bool = False
    """Refuse tasks that are not declared."""
    declared: dict[Name, TaskConfig] = field(default_factory=dict[str, TaskConfig])
    """By id."""


class GatesConfig(_Section, frozen=True, kw_only=True):
    """When an answer is accepted."""

    min_confidence: Share = 0.85
    """Answers at or above it are accepted: 0.85 means that 85 of 100 such answers are right."""
    escalation_threshold: Share = 0.75
    """Answers below it go to a stronger stage at once; not above `min_confidence`."""
    enforce_schema: bool = True
    """JSON must keep to its schema. Labels are held to those that were asked for in any case."""
    check_coherence: bool = True
    """Answers must hang together: not cut off, not looping, in the right language."""
    coherence: dict[CheckWord, EffectWord] = field(default_factory=dict[str, str])
    """What single checks do, where that is not their default (docs/gates.md): `reject` an answer, only `note` it, or `off`."""
    require_confidence: bool = False
    """Escalate answers whose confidence cannot be measured."""
    confidence: ConfidenceWord = "logprobs"
    """What confidence is measured by: `logprobs` as they stand, or `answer`: those, else the answer itself, calibrated
    on what `ReportOutcome` told (docs/quality.md)."""
    second_look: bool = True
    """Let the same stage answer again between the two thresholds, when that is cheap."""
    window_tokens: Annotated[int, Meta(ge=4, le=4096)] = 32
    """Streams are judged in windows of so many tokens ..."""
    window_ms: Annotated[int, Meta(ge=10, le=60_000)] = 1000
    """... or so many milliseconds, whichever comes first."""
    min_tokens_per_s: Annotated[float, Meta(ge=0, le=10_000)] = 0.5
    """Streams that stay slower than this are left for the next stage; 0 leaves none."""
    slow_after_s: Annotated[float, Meta(gt=0, le=600)] = 2.0
    """How long a stream must have been slow, over three windows at least."""
    stall_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """Longest silence within a stream once it has begun, if shorter than the provider's `idle_s`; 0 leaves it at that."""


class DefaultsConfig(_Section, frozen=True, kw_only=True):
    """Caps of every chain that does not say otherwise."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 8
    """Upstream calls for one request, retries and second looks too."""
    max_hops: Annotated[int, Meta(ge=0, le=100)] = 4
    """Changes of stage for one request."""
    max_cost_usd: Usd | None = None
    """Spending on one request; unset is no cap."""
    deadline_s: Seconds = 300.0
    """For callers that set none."""
    complexity: dict[TaskTypeWord, ComplexityWord] = field(
        default_factory=lambda: {
            "classify": "low",
            "extract": "medium",
            "generate": "high",
            "reason": "high",
            "embed": "low",
        }
    )
    """The capability matrix: complexity of a task type whose complexity nobody says. Types left out keep theirs."""


class CachingConfig(_Section, frozen=True, kw_only=True):
    """The caches: prompts, answers, vectors, and what is asked of the providers' own."""

    min_prompt_length: Count = 500
    """Characters; only longer static prompts are kept."""
    ttl_minutes: Annotated[float, Meta(gt=0, le=525_600)] = 60.0
    """How long a prompt is kept after its last use."""
    cache_key_strategy: Annotated[str, _one_of("task_definition_hash")] = "task_definition_hash"
    """The only strategy: hash of tenant, task definition and prompt."""
    max_bytes: Count = 64 * 1024 * 1024
    """Most that the prompt cache holds."""
    provider_side: bool = True
    """Ask providers to cache prefixes where that pays."""
    request_window_s: Seconds = 600.0
    """How long a repeated `request_id` returns the same result."""
    response_max_bytes: Count = 64 * 1024 * 1024
    """Most that the answers of tasks with `cache` take."""
    embedding_max_bytes: Count = 32 * 1024 * 1024
    """Most that vectors take, by text; 0 keeps none. A vector of 1024 numbers takes 8 KiB."""
    embedding_ttl_minutes: Annotated[float, Meta(gt=0, le=525_600)] = 1440.0
    """How long a vector is kept."""
    embedding_merge_ms: Annotated[float, Meta(ge=0, le=1000)] = 3.0
    """How long an embedding may wait for others of its tenant and task while one of them is upstream; 0 merges none."""


class OtlpConfig(_Section, frozen=True, kw_only=True):
    """A collector of OpenTelemetry's, spoken to by OTLP; needs the extra `otel`."""

    protocol: Annotated[str, _one_of("grpc", "http/protobuf")] = "grpc"
    """How it is spoken to."""
    endpoint: Annotated[str, Meta(pattern=ENDPOINT_PATTERN)] = ""
    """Where it is; `https://` is TLS by the system's authorities. Over HTTP a path may follow, to which `/v1/traces` and
    `/v1/metrics` are added. Empty is `http://127.0.0.1:4317`, over HTTP `http://127.0.0.1:4318`."""
    headers: dict[str, Secret] = field(default_factory=dict[str, str])
    """Sent with each export, such as a key; names in lower case."""
    service_name: Annotated[str, Meta(min_length=1, max_length=200)] = "gearshift"
    """The service's name there."""
    traces: bool = True
    """A span for each call, below the caller's by its `traceparent`, and one for each upstream call, which is told it."""
    metrics: bool = True
    """Times and tokens by model, by the names of the conventions for generative AI."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Share of the traces that begin here which are kept; callers that bring a trace have decided themselves."""
    every_s: Annotated[float, Meta(ge=0.05, le=60)] = 2.0
    """How often spans are sent."""
    metrics_every_s: Annotated[float, Meta(ge=0.2, le=3600)] = 30.0
    """How often metrics are sent."""


class TelemetryConfig(_Section, frozen=True, kw_only=True):
    """What is logged and exported."""

    log_chain_position: bool = True
    """One structured line a call, with chain position, provider, tokens and cost."""
    track_fallback_costs: bool = True
    """Rows of abandoned attempts in the ledger."""
    export_metrics: Annotated[str, _one_of("prometheus", "none")] = "prometheus"
    """Where metrics go."""
    log_level: Annotated[str, _one_of("debug", "info", "warning", "error")] = "info"
    """The least that is logged."""
    otlp: OtlpConfig | None = None
    """Where traces and metrics of OpenTelemetry go; unset is nowhere."""


class LedgerConfig(_Section, frozen=True, kw_only=True):
    """Where attempts are recorded."""

    path: str = ""
    """SQLite file; empty is `gearshift/ledger.db` in the user's state folder; `:memory:` keeps nothing."""
    durability: Annotated[str, _one_of("async", "sync")] = "async"
    """`async` may lose 50 ms of rows to kill -9; `sync` completes a call after its rows are on disk."""
    max_pending: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000
    """Rows that may wait for the store, about 1 KB each; newer ones are dropped then, counted and logged."""
    url: Secret = ""
    """PostgreSQL instead of SQLite: `postgresql://user:${NAME}@host:5432/database`; needs the extra `postgres`."""
    sync_wait_s: Annotated[float, Meta(ge=0, le=60)] = 2.0
    """With `sync`: how long a call waits while its rows cannot be written."""
    when_unwritable: Annotated[str, _one_of("fail", "serve")] = "fail"
    """With `sync`, after that wait: `fail` the call with UNAVAILABLE, or `serve` it before its rows are written."""
    keep_days: Annotated[int, Meta(ge=0, le=36_500)] = 0
    """Days whose single attempts are kept; of older ones daily sums are kept. 0 keeps all."""


class KeyConfig(_Section, frozen=True, kw_only=True):
    """One key of the service, by its digest."""

    id: Name
    """The key's public part."""
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the key, in lower-case hex; the key itself never stands here."""
    tenant: Name
    """Whose it is: `default`, or an entry of `tenants`."""
    role: Annotated[str, _one_of("caller", "ops")] = "caller"
    """`ops` may also see and manage the service."""
    expires: Annotated[str, Meta(pattern=EXPIRY_PATTERN)] = ""
    """When it stops working: `2027-01-31` (that day's begin, UTC) or `2027-01-31T12:00:00Z`; empty is never."""
    note: str = ""
    """What it is for, for people."""


class TenantConfig(_Section, frozen=True, kw_only=True):
    """Whose calls they are, and what they may."""

    sensitivity_floor: SensitivityWord = "public"
    """The least sensitivity of any of its tasks."""
    clearance: SensitivityWord = "restricted"
    """The most sensitive task that it may send."""
    tasks: tuple[str, ...] = ()
    """Ids of tasks that it may send; empty is all."""
    models: tuple[str, ...] = ()
    """Models that may serve it; empty is all."""
    providers: tuple[str, ...] = ()
    """Providers that may serve it; empty is all."""
    limits: LimitsConfig = LimitsConfig()
    """Limits of the tenant, over all its keys and all providers; `usd_per_day` and `usd_per_month` are its budgets."""
    on_exhausted: str = STOP
    """When a budget is spent: `stop` refuses its calls until the next day or month; the name of a chain serves them there,
    and the answer says so. What that chain costs is counted, but no longer held by the budget. Embed goes there only for
    vectors of the same space and length, and stops otherwise."""
    policy: ChainPolicyConfig = ChainPolicyConfig()
    """Caps and thresholds that its calls may only tighten."""


class AccessConfig(_Section, frozen=True, kw_only=True):
    """Who may call; neither `keys` nor a `keys_file` means everybody, as tenant `default`."""

    keys: tuple[KeyConfig, ...] = ()
    """Keys of the service."""
    keys_file: str = ""
    """File of further keys, which `gearshift keys` writes and running servers follow within seconds. Once it is named,
    nobody calls without a key, whether the file is there or not."""
    open_health: bool = True
    """Answer health checks without a key: load balancers and probes have none."""
    open_metrics: bool = False
    """Show metrics without a key of an operator: they name tenants and tasks, and tell what these spend."""
    open_reflection: bool = False
    """Describe the services (server reflection) without a key."""
    tenants: dict[Name, TenantConfig] = field(default_factory=dict[str, TenantConfig])
    """By name."""


def has_keys(access: AccessConfig) -> bool:
    """Tell whether nobody calls without a key: also while the file of keys is empty or missing."""
    return bool(access.keys or access.keys_file)


def expiry_of(expires: str) -> float | None:
    """Give when a key stops working, seconds since the epoch; infinite when never, None when there is no such time."""
    if not expires:
        return float("inf")
    try:
        return datetime.fromisoformat(expires.removesuffix("Z")).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


class TlsConfig(_Section, frozen=True, kw_only=True):
    """Files of the server's certificate; `client_ca` turns on mutual TLS."""

    certificate: str
    """PEM file with the certificate and its chain."""
    key: str
    """PEM file with the private key."""
    client_ca: str = ""
    """PEM file with the authorities of client certificates; empty asks for none."""


class RedisConfig(_Section, frozen=True, kw_only=True):
    """A Redis or Valkey server (7 or later, or its equal) that several processes keep their limits and breakers in."""

    url: Secret
    """Such as `redis://127.0.0.1:6379/0`, `rediss://…` for TLS or `unix:///run/redis.sock`; a password belongs into
    `${NAME}`."""
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "gearshift"
    """What its keys begin with; processes that share limits have the same."""
    timeout_s: Annotated[float, Meta(gt=0, le=5)] = 0.25
    """How long an answer may take before the store counts as away."""
    slow_s: Annotated[float, Meta(gt=0, le=5)] = 0.05
    """Three answers in a row that take longer than this, and the store counts as away until it is faster."""
    connections: Annotated[int, Meta(ge=1, le=64)] = 4
    """Connections of each process; calls that come together share one round trip."""


class SharedConfig(_Section, frozen=True, kw_only=True):
    """State that several processes or hosts share: limits and breakers."""

    redis: RedisConfig | None = None
    """Unset, each process keeps its own."""
    caches: bool = True
    """Keep answers, vectors and prompts there too; their content stands in it as it is. False keeps them in each process."""
    processes: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """How many processes share the limits, until they have been counted: what a process's share is then of."""
    lease_s: Annotated[float, Meta(ge=1, le=600)] = 10.0
    """How long a place (`concurrency`), or a breaker's probe, of a killed process stays taken."""
    money_lease: Annotated[float, Meta(ge=0, le=0.5)] = 0.02
    """Share of what is left of a budget that each process holds ahead, to spend while the store is away."""
    money_lease_s: Annotated[float, Meta(ge=10, le=86_400)] = 600.0
    """How long it may spend from that without the store; then it refuses."""


class OpenAiConfig(_Section, frozen=True, kw_only=True):
    """OpenAI's API on the HTTP port (docs/openai-http.md), for clients that know only that."""

    enabled: bool = True
    """Whether `/v1/chat/completions`, `/v1/embeddings` and `/v1/models` are served, where the HTTP port takes calls."""
    task: Name = "gearshift"
    """Id of the task that calls with the model names `gearshift` and `chain:<task type>` count as."""
    models: dict[Name, str] = field(default_factory=dict[str, str])
    """Further model names, each with what it stands for: `gearshift`, `task:<id>` or `chain:<task type>`."""
    stream: OpenAiStreamWord = "fail"
    """What follows a fault after text was sent, which SSE cannot take back: `fail` ends the stream with an error, `continue`
    has another model go on from what was sent where every stage can, `hold_all` sends nothing before the whole answer has
    passed. A call may only ask for a stricter one, in this order: `continue`, `fail`, `hold_all`."""
    hold_back_tokens: Annotated[int, Meta(ge=0, le=4096)] | None = None
    """Tokens that are judged before the first is sent; unset is as of the task, or of `stream`. A call may hold more."""
    hold_back_ms: Annotated[int, Meta(ge=0, le=60_000)] | None = None
    """Milliseconds that the first token is held at most; unset is as of the task, or of `stream`. A call may hold more."""
    keep_alive_s: Annotated[float, Meta(ge=0, le=600)] = 15.0
    """Seconds of silence after which a stream sends a comment, so that nobody on the way takes it for dead; 0 sends none. What
    fails after the first comment is told by an event of the stream, not by an HTTP status."""


class ServerConfig(_Section, frozen=True, kw_only=True):
    """Where it listens."""

    host: str = "127.0.0.1"
    """Address of the gRPC port."""
    port: Port = 50051
    """The gRPC port; 0 takes a free one."""
    http_host: str = "127.0.0.1"
    """Address of the HTTP port."""
    http_port: Port = 9464
    """Metrics, health and calls over HTTP; 0 takes a free one."""
    http: bool = True
    """Whether there is an HTTP port."""
    http_allowed_hosts: tuple[str, ...] = ()
    """Names that the HTTP port answers to besides addresses and `localhost`, such as the one that Prometheus asks."""
    http_calls: bool = True
    """Whether the HTTP port takes calls (gRPC-Web for browsers) besides showing metrics and health. Where `tls.client_ca` is
    set it takes them only with `http_tls`."""
    pages: bool = True
    """Whether the HTTP port shows the chat page at `/` and the dashboard at `/ops`, where it takes calls."""
    http_allowed_origins: tuple[str, ...] = ()
    """Other web sites whose pages may call over HTTP, such as `https://chat.example.com`; empty lets none."""
    http_tls: bool = False
    """Whether the HTTP port speaks TLS, with the certificates of `tls`."""
    tls: TlsConfig | None = None
    """Unset speaks plain text."""
    openai: OpenAiConfig = OpenAiConfig()
    """OpenAI's API over HTTP."""
    max_message_bytes: Annotated[int, Meta(ge=65_536, le=256 * 1024 * 1024)] = 32 * 1024 * 1024
    """Longest message that is taken."""
    max_calls: Annotated[int, Meta(ge=1, le=1_000_000)] = 2048
    """Calls at once; more are RESOURCE_EXHAUSTED."""
    grace_s: Seconds = 30.0
    """How long running calls may go on after a stop was asked for."""
    notice_s: Annotated[float, Meta(ge=0, le=600)] = 0.0
    """How long calls are still taken after a stop was asked for, while health already says NOT_SERVING: the time that a
    balancer needs to see it. 0 refuses at once."""
    connection_age_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """Age at which a connection is to be replaced by a new one, so that callers that balance by DNS find new hosts; calls
    that run on it end in peace. 0 keeps it for ever."""
    uvloop: bool = True
    """Run on uvloop where it is installed."""
    own_cores: bool | None = None
    """Whether the service has its cores to itself: the other threads of a worker then interrupt the one that answers calls no
    more, which saves CPU (docs/performance.md). Where other programs compete for the cores, messages may wait for tens of
    ms. Unset looks four times a second whether others leave the cores alone."""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that share the ports, under a supervisor. Without `shared.redis` each keeps its part of every limit."""
    watch_config: bool = True
    """Reload when the file has changed, looked at once a second."""


class Config(_Section, frozen=True, kw_only=True):
    """The whole file."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    """Of this format."""
    providers: dict[Name, ProviderConfig] = field(default_factory=dict[str, ProviderConfig])
    """Where models run, by name."""
    models: dict[Name, ModelConfig] = field(default_factory=dict[str, ModelConfig])
    """Models that the catalogue lacks or has otherwise, by name."""
    chains: dict[Name, ChainConfig] = field(default_factory=dict[str, ChainConfig])
    """A chain named like a task type serves that type."""
    tasks: TasksConfig = TasksConfig()
    """Declared tasks."""
    gates: GatesConfig = GatesConfig()
    """When an answer is accepted."""
    defaults: DefaultsConfig = DefaultsConfig()
    """Caps of every chain that does not say otherwise."""
    stream: StreamConfig = StreamConfig()
    """How streams are held back and switched."""
    retry: RetryConfig = RetryConfig()
    """How long to wait between calls of one stage."""
    caching: CachingConfig = CachingConfig()
    """The prompt cache."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """What is logged and exported."""
    ledger: LedgerConfig = LedgerConfig()
    """Where attempts are recorded."""
    access: AccessConfig = AccessConfig()
    """Who may call."""
    server: ServerConfig = ServerConfig()
    """Where it listens."""
    shared: SharedConfig = SharedConfig()
    """State that several processes share."""
