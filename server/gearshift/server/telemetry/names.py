"""Names of OpenTelemetry's conventions for generative AI, and our own.

Rules: the one table; names move while the conventions are in development, and are changed here alone. A test holds it
against the packages that are installed.

Source: open-telemetry/semantic-conventions-genai (status Development, read in November 2026), whose
`gen_ai.client.inference.*` and `gen_ai.client.embeddings.*` replaced `gen_ai.client.operation.*`, and
`gen_ai.provider.name` `gen_ai.system`; for calls of our own, open-telemetry/semantic-conventions 1.44 (`rpc.*`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Attributes of spans and metrics.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_STATUS: Final = "rpc.response.status_code"

# Attributes of the process.
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE: Final = "service.instance.id"

# Values of gen_ai.operation.name.
CHAT: Final = "chat"
EMBEDDINGS: Final = "embeddings"

FAILED: Final = "error"
"""The finish reason of an answer that ended otherwise than by its model."""

# Metrics of answers.
DURATION: Final = "gen_ai.client.inference.duration"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.client.inference.time_to_first_chunk"
OPERATION_INPUT_TOKENS: Final = "gen_ai.client.inference.operation.input_tokens"
OPERATION_OUTPUT_TOKENS: Final = "gen_ai.client.inference.operation.output_tokens"
USED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "input_tokens": "gen_ai.client.inference.usage.input_tokens",
        "output_tokens": "gen_ai.client.inference.usage.output_tokens",
        "cache_read_tokens": "gen_ai.client.inference.usage.cache_read.input_tokens",
        "cache_write_tokens": "gen_ai.client.inference.usage.cache_write.input_tokens",
        "reasoning_tokens": "gen_ai.client.inference.usage.reasoning.output_tokens",
    }
)
"""Counters, by the part of the usage that they count."""

# Metrics of vectors.
EMBEDDINGS_DURATION: Final = "gen_ai.client.embeddings.duration"
EMBEDDINGS_INPUT_TOKENS: Final = "gen_ai.client.embeddings.operation.input_tokens"

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Bounds of the conventions' histograms of time, seconds."""
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Bounds of the conventions' histograms of tokens."""

# Our own: what the conventions have no name for.
TASK: Final = "gearshift.task.id"
TASK_TYPE: Final = "gearshift.task.type"
COMPLEXITY: Final = "gearshift.task.complexity"
TENANT: Final = "gearshift.tenant"
REQUEST_ID: Final = "gearshift.request.id"
CHAIN: Final = "gearshift.chain"
OUTCOME: Final = "gearshift.outcome"
POSITION: Final = "gearshift.stage.position"
ACCOUNT: Final = "gearshift.account"
ATTEMPT: Final = "gearshift.attempt.number"
CAUSE: Final = "gearshift.attempt.cause"
ATTEMPTS: Final = "gearshift.attempts"
QUEUE: Final = "gearshift.queue_ms"
COST: Final = "gearshift.cost_usd"
SAVED: Final = "gearshift.saved_usd"
USAGE_SOURCE: Final = "gearshift.usage.source"
CACHED: Final = "gearshift.cached"
GATE: Final = "gearshift.gate"
GATE_RESULT: Final = "gearshift.gate.result"
CONFIDENCE: Final = "gearshift.gate.confidence"
VERDICT_EVENT: Final = "gearshift.verdict"

_PROVIDERS: Final = {
    "openai": "openai",
    "groq": "groq",
    "deepseek": "deepseek",
    "anthropic": "anthropic",
    "voyage": "voyageai",
}
"""The conventions' values, by kind or dialect; those that have none there go by their own name."""


def provider_value(kind: str, dialect: str) -> str:
    """Give the value of `gen_ai.provider.name` for a provider's kind and dialect."""
    word = dialect if kind == "openai" and dialect not in ("", "compatible") else kind
    if kind == "openai" and dialect in ("", "compatible"):
        return "openai_compatible"
    return _PROVIDERS.get(word, word)
