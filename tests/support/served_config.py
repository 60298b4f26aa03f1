"""Configurations of the service over scripted upstreams, as YAML."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

PRICES = "{input_usd: 1, output_usd: 2}"
"""USD for a million tokens."""


def one_openai(url: str, *, more: str = "", stage: str = "") -> str:
    """Give every task type one stage, `m` of the OpenAI-compatible provider `up`."""
    return of_openai({"up": url}, more=more, stage=stage or "max_retries: 0")


def of_openai(urls: Mapping[str, str], *, more: str = "", stage: str = "max_retries: 0") -> str:
    """Give every task type a stage for each provider, in order, whose models are `m-<provider>`; the last is strongest."""
    lines = ["version: 1", "providers:"]
    for name, url in urls.items():
        lines.append(f"  {name}: {{kind: openai, dialect: compatible, base_url: '{url}/v1', api_key: ''}}")
    lines.append("models:")
    words = ["low"] * (len(urls) - 1) + ["high"]
    for name, word in zip(urls, words, strict=True):
        lines.append(
            f"  m-{name}: {{provider: {name}, capability: {word}, context_tokens: 8192, prices: {PRICES}, "
            "features: [json_object, json_schema, tools, temperature, images]}"
        )
        lines.append(f"  e-{name}: {{provider: {name}, capability: low, prices: {PRICES}, dimensions: [2]}}")
    lines.append("defaults: {complexity: {classify: low, extract: low, generate: low, reason: low, embed: low}}")
    lines.append("retry: {base_s: 0.001, max_s: 0.01}")
    lines.append("chains:")
    for kind in ("classify", "extract", "generate", "reason", "embed"):
        lines.append(f"  {kind}:")
        lines.append("    stages:")
        prefix = "e" if kind == "embed" else "m"
        lines += [f"      - {{provider: {name}, model: {prefix}-{name}, {stage}}}" for name in urls]
    return "\n".join([*lines, textwrap.dedent(more)])
