"""The configuration, as it stands in gearshift.yaml.

Rules: plain values with their defaults; unknown fields are errors; every default here is the documented one. What can
only be seen across fields (a stage's provider exists, a chain is not empty) is checked in `check.py`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct, field

from gearshift.core.words import Complexity, Sensitivity, SwitchMode, TaskType

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Amount = Annotated[float, Meta(gt=0, le=1e12)]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping in the file; an unknown field is an error."""


class LimitsConfig(_Section):
    """Token buckets: what a minute refills, and how much may run at once. None is no limit."""

    requests_per_minute: Amount | None = None
    tokens_per_minute: Amount | None = None
    """Model tokens, input and output together."""
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    usd_per_day: Annotated[Decimal, Meta(ge=0)] | None = None
    burst_s: Seconds = 60.0
    """Capacity of the minute buckets, as seconds of their refill."""
    pace: Amount | None = None
    """Requests a second to space outbound calls evenly (aiolimiter); None sends as they come."""


class BreakerConfig(_Section):
    """When an account and model is taken out of use."""

    consecutive_faults: Annotated[int, Meta(ge=1, le=1000)] = 5
    fault_rate: Share = 0.5
    """Opens when this share of the last `window` outcomes were faults."""
    window: Annotated[int, Meta(ge=4, le=10_000)] = 20
    open_s: Seconds = 15.0
    """How long it stays open before one probe is let through; doubled on each failed probe up to `max_open_s`."""
    max_open_s: Seconds = 300.0
    authentication_open_s: Seconds = 300.0


class TimeoutsConfig(_Section):
    """How long one attempt may take."""

    connect_s: Seconds = 5.0
    first_token_s: Seconds = 30.0
    idle_s: Seconds = 15.0
    total_s: Seconds = 120.0


class RetryConfig(_Section):
    """Full-jitter backoff: a wait of random(0, min(max_s, base_s * 2**n))."""

    base_s: Seconds = 0.25
    max_s: Seconds = 8.0


class AccountConfig(_Section):
    """One key or base URL at a provider."""

    name: Name
    api_key: str = ""
    base_url: str = ""
    """Empty uses the provider's."""
    weight: Amount = 1.0
    limits: LimitsConfig | None = None
    """Empty uses the provider's."""


class ProviderConfig(_Section):
    """Where models run."""

    kind: str
    """`anthropic`, `openai`, `ollama`, `voyage`, `embedded`, or the name of an entry point in `gearshift.providers`."""
    dialect: str = ""
    """For kind openai: `openai`, `groq`, `deepseek`, `vllm`, `llamacpp`, `compatible`; empty is told from the name."""
    base_url: str = ""
    """Empty uses the kind's documented one."""
    api_key: str = ""
    clearance: str = "internal"
    """`public`, `internal` or `restricted`: the most sensitive task that it may see."""
    accounts: tuple[AccountConfig, ...] = ()
    """More than one key or base URL; empty is the one above."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    limits: LimitsConfig = LimitsConfig()
    breaker: BreakerConfig = BreakerConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    cost_per_hour_usd: Annotated[Decimal, Meta(ge=0)] | None = None
    """What the machine costs, for self-hosted models."""
    parallelism: Annotated[float, Meta(gt=0, le=10_000)] = 1.0
    """Calls that a self-hosted machine runs at once, until it is measured."""
    connections: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """Most connections held open."""
    embedded: EmbeddedConfig | None = None


class EmbeddedConfig(_Section):
    """The embedded model's process."""

    model_path: str = ""
    """A GGUF file; empty is the Gemma 3 270M of the extra `embedded`."""
    sha256: str = ""
    """Expected digest of `model_path`; empty does not check it (the default model is always checked)."""
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """0 is one for each core."""
    context_tokens: Annotated[int, Meta(ge=512, le=131_072)] = 8192
    slots: Annotated[int, Meta(ge=1, le=64)] = 2
    """Calls that run at once."""


class PriceConfig(_Section):
    """Prices of a model that the catalogue does not know, USD for a million tokens."""

    input_usd: Annotated[Decimal, Meta(ge=0)]
    output_usd: Annotated[Decimal, Meta(ge=0)] = Decimal(0)
    cache_write_usd: Annotated[Decimal, Meta(ge=0)] | None = None
    cache_read_usd: Annotated[Decimal, Meta(ge=0)] | None = None


class ModelConfig(_Section):
    """A model that the catalogue lacks, or what is to be different about one that it has (`like`)."""

    provider: str
    """The provider's name in this file."""
    like: str = ""
    """A catalogue id to start from; the fields below override it."""
    wire_id: str = ""
    """Empty is the model's own name, or that of `like`."""
    capability: str | None = None
    context_tokens: Count | None = None
    max_output_tokens: Count | None = None
    features: tuple[str, ...] | None = None
    prices: PriceConfig | None = None
    self_hosted: bool | None = None
    vector_space: str | None = None
    dimensions: tuple[Annotated[int, Meta(ge=1, le=65_536)], ...] | None = None
    max_batch: Annotated[int, Meta(ge=1, le=4096)] | None = None
    max_input_tokens: Count | None = None
    options: dict[str, str] | None = None


class StageConfig(_Section):
    """One model on one provider, with its own policy."""

    provider: str
    model: str
    label: str = ""
    max_retries: Annotated[int, Meta(ge=0, le=10)] = 1
    """1 means at most two calls."""
    timeouts: TimeoutsConfig | None = None
    """Empty uses the provider's."""
    capability: str | None = None
    """Overrides the catalogue's, for this chain."""
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    extra_body: dict[str, object] = field(default_factory=dict[str, object])
    cost_per_m: Annotated[Decimal, Meta(ge=0)] | None = None
    """The article's `costPerM`: kept as a comment, never billed."""


class ChainPolicyConfig(_Section):
    """Caps and thresholds of a chain; None takes the defaults below `defaults` in the file."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    max_hops: Annotated[int, Meta(ge=0, le=100)] | None = None
    max_cost_usd: Annotated[Decimal, Meta(ge=0)] | None = None
    min_confidence: Share | None = None
    escalation_threshold: Share | None = None
    require_valid: bool | None = None
    require_confidence: bool | None = None
    second_look: bool | None = None


class StreamConfig(_Section):
    """How streams are held back and switched, unless the caller says otherwise."""

    hold_back_tokens: Annotated[int, Meta(ge=0, le=4096)] = 32
    hold_back_ms: Annotated[int, Meta(ge=0, le=60_000)] = 400
    mode: str = "regenerate"
    escalate_at_end: bool = False


class ChainConfig(_Section):
    """Stages in the order in which they are tried."""

    stages: Annotated[tuple[StageConfig, ...], Meta(min_length=1, max_length=32)]
    order: str = "written"
    """`written` or `adaptive`."""
    policy: ChainPolicyConfig = ChainPolicyConfig()
    allow_space_change: bool = False
    """Embed chains: a fallback may answer in another vector space, which silently ruins an index that mixes them."""


class ExampleConfig(_Section):
    """A text with its right answer: a label, or a JSON document."""

    text: str
    label: str = ""
    json: str = ""


class OutputConfig(_Section):
    """What the answer must look like: labels, or a JSON Schema."""

    labels: tuple[str, ...] = ()
    json_schema: dict[str, object] | None = None
    examples: tuple[ExampleConfig, ...] = ()


class TaskConfig(_Section):
    """A declared task."""

    type: str
    complexity: str | None = None
    sensitivity: str | None = None
    prompt: str = ""
    static: bool = False
    output: OutputConfig | None = None
    chain: str = ""
    """Empty is the chain of the task's type."""
    policy: ChainPolicyConfig = ChainPolicyConfig()
    stream: StreamConfig | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    limits: LimitsConfig | None = None


class TasksConfig(_Section):
    """Declared tasks, and whether others are served."""

    strict: bool = False
    declared: dict[Name, TaskConfig] = field(default_factory=dict[str, TaskConfig])


class GatesConfig(_Section):
    """When an answer is accepted."""

    min_confidence: Share = 0.85
    escalation_threshold: Share = 0.75
    enforce_schema: bool = True
    check_coherence: bool = True
    require_confidence: bool = False
    second_look: bool = True


class DefaultsConfig(_Section):
    """Caps of every chain that does not say otherwise."""

    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 8
    max_hops: Annotated[int, Meta(ge=0, le=100)] = 4
    max_cost_usd: Annotated[Decimal, Meta(ge=0)] | None = None
    deadline_s: Seconds = 300.0
    """For callers that set none."""
    complexity: dict[str, str] = field(
        default_factory=lambda: {
            "classify": "low",
            "extract": "medium",
            "generate": "high",
            "reason": "high",
            "embed": "low",
        }
    )
    """The capability matrix: complexity of a task type whose complexity nobody says."""


class CachingConfig(_Section):
    """The prompt cache and what is asked of the providers' own."""

    min_prompt_length: Count = 500
    """Characters; only longer static prompts are kept."""
    ttl_minutes: Annotated[float, Meta(gt=0, le=525_600)] = 60.0
    cache_key_strategy: str = "task_definition_hash"
    """The only strategy: hash of tenant, task definition and prompt."""
    max_bytes: Count = 64 * 1024 * 1024
    provider_side: bool = True
    request_window_s: Seconds = 600.0
    """How long a repeated `request_id` returns the same result."""


class TelemetryConfig(_Section):
    """What is logged and exported."""

    log_chain_position: bool = True
    """One structured line a call, with chain position, provider, tokens and cost."""
    track_fallback_costs: bool = True
    """Rows of abandoned attempts in the ledger."""
    export_metrics: str = "prometheus"
    """`prometheus` or `none`."""
    log_level: str = "info"


class LedgerConfig(_Section):
    """Where attempts are recorded."""

    path: str = ""
    """SQLite file; empty is `gearshift/ledger.db` in the user's state folder; `:memory:` keeps nothing."""
    durability: str = "async"
    """`async` may lose 50 ms of rows to kill -9; `sync` completes a call after its rows are on disk."""
    max_pending: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000


class KeyConfig(_Section):
    """One key of the service, by its digest."""

    id: Name
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    tenant: Name
    role: str = "caller"
    """`caller` or `ops`."""


class TenantConfig(_Section):
    """Whose calls they are, and what they may."""

    sensitivity_floor: str = "public"
    clearance: str = "restricted"
    """The most sensitive task that it may send."""
    tasks: tuple[str, ...] = ()
    """Empty is all."""
    models: tuple[str, ...] = ()
    """Empty is all."""
    limits: LimitsConfig = LimitsConfig()
    policy: ChainPolicyConfig = ChainPolicyConfig()


class AccessConfig(_Section):
    """Who may call; no keys at all means everybody, as tenant `default`."""

    keys: tuple[KeyConfig, ...] = ()
    tenants: dict[Name, TenantConfig] = field(default_factory=dict[str, TenantConfig])


class TlsConfig(_Section):
    """Files of the server's certificate; `client_ca` turns on mutual TLS."""

    certificate: str
    key: str
    client_ca: str = ""


class ServerConfig(_Section):
    """Where it listens."""

    host: str = "127.0.0.1"
    port: Port = 50051
    """0 takes a free one."""
    http_host: str = "127.0.0.1"
    http_port: Port = 9464
    """Metrics and health over HTTP."""
    http: bool = True
    tls: TlsConfig | None = None
    max_message_bytes: Annotated[int, Meta(ge=65_536, le=256 * 1024 * 1024)] = 32 * 1024 * 1024
    max_calls: Annotated[int, Meta(ge=1, le=1_000_000)] = 2048
    """Calls at once; more are RESOURCE_EXHAUSTED."""
    grace_s: Seconds = 30.0
    uvloop: bool = True


class Config(_Section):
    """The whole file."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    providers: dict[Name, ProviderConfig] = field(default_factory=dict[str, ProviderConfig])
    models: dict[Name, ModelConfig] = field(default_factory=dict[str, ModelConfig])
    chains: dict[Name, ChainConfig] = field(default_factory=dict[str, ChainConfig])
    """A chain named like a task type serves that type."""
    tasks: TasksConfig = TasksConfig()
    gates: GatesConfig = GatesConfig()
    defaults: DefaultsConfig = DefaultsConfig()
    stream: StreamConfig = StreamConfig()
    retry: RetryConfig = RetryConfig()
    caching: CachingConfig = CachingConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    ledger: LedgerConfig = LedgerConfig()
    access: AccessConfig = AccessConfig()
    server: ServerConfig = ServerConfig()


WORD_FIELDS: dict[str, type[TaskType] | type[Complexity] | type[Sensitivity] | type[SwitchMode]] = {
    "type": TaskType,
    "complexity": Complexity,
    "capability": Complexity,
    "sensitivity": Sensitivity,
    "clearance": Sensitivity,
    "sensitivity_floor": Sensitivity,
    "mode": SwitchMode,
}
"""Fields whose text must be a word of the enumeration."""
