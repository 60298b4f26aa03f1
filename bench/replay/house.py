"""The configuration that is measured: the article's idea of chains, on the models whose answers or averages are public.

Rules: prices are list prices of the time when the answers were recorded, USD for a million tokens. What is cheap comes first
and the strong model behind it; `thresholds` decide where the first answer is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gearshift.core.catalogue import Catalogue
from gearshift.core.config.load import parse_config
from gearshift.server.replay.world import AnyKey, Outage, World, world_of
from gearshift.server.simulator import parse_plan

_CONFIG = """
version: 1
providers:
  google: {{kind: openai, dialect: compatible, base_url: "http://127.0.0.1:1/v1"}}
  anthropic: {{kind: anthropic, api_key: "${{KEY}}"}}
  mistral: {{kind: openai, dialect: compatible, base_url: "http://127.0.0.1:1/v1"}}
  openai: {{kind: openai, dialect: compatible, base_url: "http://127.0.0.1:1/v1"}}
models:
  flash: {{provider: google, wire_id: m-flash, capability: medium, prices: {{input_usd: 0.075, output_usd: 0.30}}}}
  pro: {{provider: google, wire_id: m-pro, capability: high, prices: {{input_usd: 1.25, output_usd: 5.00}}}}
  haiku: {{provider: anthropic, wire_id: m-haiku, capability: medium, prices: {{input_usd: 0.25, output_usd: 1.25}}}}
  sonnet: {{provider: anthropic, wire_id: m-sonnet, capability: high, prices: {{input_usd: 3, output_usd: 15}}}}
  mixtral: {{provider: mistral, wire_id: m-mixtral, capability: medium, prices: {{input_usd: 0.24, output_usd: 0.24}}}}
  gpt4: {{provider: openai, wire_id: m-gpt4, capability: high, prices: {{input_usd: 24.7, output_usd: 24.7}}}}
chains:
  classify:
    stages: [{{provider: google, model: flash}}, {{provider: anthropic, model: sonnet}}]
  extract:
    stages: [{{provider: anthropic, model: haiku}}, {{provider: anthropic, model: sonnet}}]
  reason:
    stages: [{reason}]
    policy: {{{reason_policy}}}
  math:
    stages: [{math}]
    policy: {{{math_policy}}}
tasks:
  declared:
    classify: {{type: classify, complexity: low}}
    extract: {{type: extract, complexity: low}}
    reason: {{type: reason, complexity: low}}
    math: {{type: reason, complexity: low, chain: math}}
"""
_STAGES = {
    "reason": ("{provider: google, model: flash}", "{provider: google, model: pro}"),
    "math": ("{provider: mistral, model: mixtral}", "{provider: openai, model: gpt4}"),
}
PLAN = """
providers:
  google: {wire: openai, latency: {first_token_ms: 300, token_ms: 12}}
  anthropic: {wire: anthropic, latency: {first_token_ms: 600, token_ms: 20}}
  mistral: {wire: openai, latency: {first_token_ms: 300, token_ms: 12}}
  openai: {wire: openai, latency: {first_token_ms: 400, token_ms: 24}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """How a hard task is served: from which confidence on the first answer is believed; None asks the strong model first."""

    threshold: float | None


STRONG_FIRST = Cascade(threshold=None)
MEASURING = Cascade(threshold=0.0)


def house(hard: Mapping[str, Cascade], *, fault_rate: float, seed: int, outages: Sequence[Outage] = ()) -> World:
    """Give the world of a measurement; `hard`: how `reason` and `math` are served."""
    loaded = parse_config(configuration(hard), AnyKey(), "bench")
    return world_of(loaded, Catalogue.load(), plan=parse_plan(PLAN), fault_rate=fault_rate, outages=outages, seed=seed)


def configuration(hard: Mapping[str, Cascade]) -> str:
    """Give the configuration, as YAML."""
    filled: dict[str, str] = {}
    for task, (cheap, strong) in _STAGES.items():
        threshold = hard[task].threshold
        filled[task] = f"{strong}, {cheap}" if threshold is None else f"{cheap}, {strong}"
        policy = "confidence: answer, second_look: false"
        if threshold is not None:
            policy += f", min_confidence: {min(1.0, threshold):.6f}, escalation_threshold: {min(1.0, threshold):.6f}"
        else:
            policy = "min_confidence: 0, escalation_threshold: 0, second_look: false"
        filled[f"{task}_policy"] = policy
    return _CONFIG.format(**filled).lstrip()
