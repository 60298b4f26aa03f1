"""(c) Gearshift as anybody runs it: a gearshift.yaml with an `openai` provider, its default features all on.

Chains have two stages, as chains do; the first one answers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.speed import messages

_CONFIG = """\
version: 1
providers:
  upstream: {{kind: openai, base_url: "http://127.0.0.1:{upstream}/v1", api_key: bench}}
models:
{models}
  bench-strong: {{provider: upstream, capability: high, context_tokens: 128000, prices: {{input_usd: 3, output_usd: 15}}}}
chains:
{chains}
tasks:
  declared:
{tasks}
ledger: {{path: "{folder}/ledger.db"}}
server: {{port: {port}, http_port: 0}}
"""
_MODEL = (
    "  {name}: {{provider: upstream, capability: high, context_tokens: 128000, "
    "prices: {{input_usd: 0.15, output_usd: 0.6}}}}"
)
_CHAIN = "  {name}: {{stages: [{{provider: upstream, model: {name}}}, {{provider: upstream, model: bench-strong}}]}}"
_TASK = "    {name}: {{type: generate, chain: {name}}}"


def write_config(folder: Path, port: int, upstream: int) -> Path:
    """Write the configuration into a folder, where the ledger goes too."""
    names = (messages.WHOLE, messages.PACED, messages.BURST)
    models, chains, tasks = ("\n".join(form.format(name=name) for name in names) for form in (_MODEL, _CHAIN, _TASK))
    path = folder / "gearshift.yaml"
    path.write_text(
        _CONFIG.format(upstream=upstream, models=models, chains=chains, tasks=tasks, folder=folder, port=port),
        encoding="utf-8",
    )
    return path


def command(config: Path) -> list[str]:
    """Give the command that serves a configuration."""
    return [sys.executable, "-m", "gearshift.server", "serve", "--config", str(config)]
