"""The example files, against the values of the article that they come from."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import load_config, parse_config
from gearshift.core.request import JsonOutput, LabelOutput
from gearshift.core.words import Complexity, Sensitivity, TaskType

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "examples"
ENV = {f"{name}_API_KEY": "k" for name in ("ANTHROPIC", "GROQ", "DEEPSEEK", "VOYAGE")}

# The article's Configuration Template, as it is printed there.
TEMPLATE = """
  chains: {
    classify: [
      { provider: 'ollama', model: 'llama3.1:8b', maxRetries: 1 },
      { provider: 'groq', model: 'llama3-8b', maxRetries: 1 },
      { provider: 'anthropic', model: 'claude-haiku', maxRetries: 2 },
      { provider: 'anthropic', model: 'claude-sonnet', maxRetries: 1 }
    ],
    extract: [
      { provider: 'deepseek', model: 'deepseek-chat', maxRetries: 2 },
      { provider: 'anthropic', model: 'claude-haiku', maxRetries: 2 },
      { provider: 'anthropic', model: 'claude-sonnet', maxRetries: 1 }
    ],
    generate: [
      { provider: 'anthropic', model: 'claude-sonnet', maxRetries: 2 },
      { provider: 'anthropic', model: 'claude-opus', maxRetries: 1 }
    ],
    embed: [
      { provider: 'ollama', model: 'nomic-embed-text', maxRetries: 3 },
      { provider: 'voyage', model: 'voyage-3', maxRetries: 2 }
    ]
  },
  validation: {
    minConfidence: 0.85,
    enforceSchema: true,
    checkCoherence: true,
    escalationThreshold: 0.75
  },
  caching: {
    minPromptLength: 500,
    ttlMinutes: 60,
    cacheKeyStrategy: 'task_definition_hash'
  },
  telemetry: {
    logChainPosition: true,
    trackFallbackCosts: true,
    exportMetrics: 'prometheus'
  }
"""

# The article's EXECUTION_CHAINS: USD for a million tokens that it reckons with.
COST_PER_M = {
    ("classify", "llama3.1:8b"): "0",
    ("classify", "llama3-8b"): "0",
    ("classify", "claude-haiku"): "0.80",
    ("classify", "claude-sonnet"): "3.00",
    ("generate", "claude-sonnet"): "3.00",
    ("generate", "claude-opus"): "15.00",
    ("embed", "nomic-embed-text"): "0",
    ("embed", "voyage-3"): "0.12",
}

# The article's Decision Matrix: task, type, complexity, sensitivity, models in order.
MATRIX = [
    pytest.param(
        "email-triage", TaskType.CLASSIFY, Complexity.LOW, Sensitivity.INTERNAL, ["claude-haiku", "llama3.1:8b"],
        id="high-volume email classification",
    ),
    pytest.param(
        "invoice-fields", TaskType.EXTRACT, Complexity.MEDIUM, Sensitivity.INTERNAL, ["deepseek-chat", "llama3-8b"],
        id="structured data extraction",
    ),
    pytest.param(
        "article-draft", TaskType.GENERATE, Complexity.HIGH, Sensitivity.INTERNAL, ["claude-sonnet", "claude-opus"],
        id="long-form content generation",
    ),
    pytest.param(
        "incident-analysis", TaskType.REASON, Complexity.HIGH, Sensitivity.INTERNAL, ["claude-opus", "claude-sonnet"],
        id="complex multi-step reasoning",
    ),
    pytest.param(
        "search-index", TaskType.EMBED, None, Sensitivity.INTERNAL, ["nomic-embed-text"], id="embedding generation"
    ),
    pytest.param(
        "patient-letter", TaskType.GENERATE, Complexity.HIGH, Sensitivity.RESTRICTED, ["claude-sonnet", "claude-opus"],
        id="sensitive or regulated data",
    ),
]  # fmt: skip


def blueprint_of(name: str) -> Blueprint:
    return build(load_config(EXAMPLES / name, ENV), Catalogue.load())


def article_stages() -> dict[str, list[tuple[str, str, int]]]:
    chains: dict[str, list[tuple[str, str, int]]] = {}
    for name, body in re.findall(r"(\w+): \[(.*?)\]", TEMPLATE, re.DOTALL):
        found = re.findall(r"provider: '([^']+)', model: '([^']+)', maxRetries: (\d+)", body)
        chains[name] = [(provider, model, int(retries)) for provider, model, retries in found]
    return chains


def article_settings() -> dict[str, str]:
    rest = TEMPLATE[TEMPLATE.index("validation") :]
    return {name: value for name, value in re.findall(r"(\w+): '?([\w.]+)'?,?\n", rest)}


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match[0].lower(), name)


def test_the_articles_chains_are_stage_by_stage_the_same() -> None:
    config = blueprint_of("article.yaml").config
    stages = {
        name: [(each.provider, each.model, each.max_retries) for each in chain.stages]
        for name, chain in config.chains.items()
        if name != "reason"
    }
    assert stages == article_stages()
    assert sum(map(len, stages.values())) == 11


def test_the_articles_reason_chain_comes_from_its_decision_matrix() -> None:
    chain = blueprint_of("article.yaml").config.chains["reason"]
    assert [each.model for each in chain.stages] == ["claude-opus", "claude-sonnet"]


def test_every_setting_of_the_article_has_its_value_here() -> None:
    config = blueprint_of("article.yaml").config
    settings = article_settings()
    assert len(settings) == 10
    for name, value in settings.items():
        section = next(each for each in (config.gates, config.caching, config.telemetry) if hasattr(each, snake(name)))
        ours = getattr(section, snake(name))
        theirs = {"true": True, "false": False}.get(value, value)
        assert ours == (theirs if isinstance(theirs, bool) or not value[0].isdigit() else float(value)), name


def test_the_head_of_the_file_maps_every_key_of_the_article() -> None:
    head = (EXAMPLES / "article.yaml").read_text().split("version: 1")[0]
    for name in [*article_settings(), "provider", "model", "maxRetries", "costPerM"]:
        assert re.search(rf"^#.*\b{name}\b.*\b{snake(name)}\b", head, re.MULTILINE), name


def test_the_articles_prices_are_notes_that_are_never_billed() -> None:
    blueprint = blueprint_of("article.yaml")
    notes = {
        (name, each.model): each.cost_per_m
        for name, chain in blueprint.config.chains.items()
        for each in chain.stages
        if each.cost_per_m is not None
    }
    assert notes == {key: Decimal(value) for key, value in COST_PER_M.items()}
    catalogue = Catalogue.load()
    for chain in blueprint.chains.values():
        for stage in chain.stages:
            known = catalogue.find(stage.provider.kind, stage.model.id, stage.provider.dialect)
            assert known is not None
            assert stage.model.prices == known.prices


def test_the_articles_embed_chain_says_why_it_is_dangerous() -> None:
    assert blueprint_of("article.yaml").chains["embed"].allow_space_change
    text = (EXAMPLES / "article.yaml").read_text()
    assert re.search(r"# DANGEROUS.*?ruined.*?\n    allow_space_change: true", text, re.DOTALL)


def test_retired_names_of_the_article_are_told() -> None:
    assert [re.sub(r".*?: ", "", each, count=1) for each in blueprint_of("article.yaml").warnings] == [
        "chains.classify.stages[1].model: Groq has shut down Llama 3 8B; gpt-oss-20b, which Groq names in its place, "
        + "answers",
        "chains.extract.stages[0].model: deepseek-chat ended on 2026-07-24; deepseek-flash answers in its place",
    ]


@pytest.mark.parametrize(("task_id", "task_type", "complexity", "sensitivity", "models"), MATRIX)
def test_each_row_of_the_decision_matrix_is_a_task(
    task_id: str,
    task_type: TaskType,
    complexity: Complexity | None,
    sensitivity: Sensitivity,
    models: list[str],
) -> None:
    blueprint = blueprint_of("decision-matrix.yaml")
    task = blueprint.tasks[task_id]
    assert (task.type, task.complexity, task.sensitivity) == (task_type, complexity, sensitivity)
    assert [each.model for each in blueprint.config.chains[task.chain.name].stages] == models


def test_the_decision_matrix_has_six_rows() -> None:
    assert len(blueprint_of("decision-matrix.yaml").tasks) == len(MATRIX) == 6


def test_the_matrix_classifies_with_labels_and_extracts_with_a_schema() -> None:
    tasks = blueprint_of("decision-matrix.yaml").tasks
    assert isinstance(tasks["email-triage"].output, LabelOutput)
    assert isinstance(tasks["invoice-fields"].output, JsonOutput)


def test_the_matrix_machine_costs_15_usd_a_month() -> None:
    cost = blueprint_of("decision-matrix.yaml").providers["ollama"].cost_per_hour_usd
    assert cost is not None
    assert round(cost * 730, 1) == 15


def test_regulated_data_goes_only_where_it_is_cleared_and_encrypted() -> None:
    blueprint = blueprint_of("decision-matrix.yaml")
    for stage in blueprint.tasks["patient-letter"].chain.stages:
        assert stage.provider.clearance is Sensitivity.RESTRICTED
        assert all(each.account.base_url.startswith("https://") for each in stage.provider.accounts)
    cleared = {name for name, each in blueprint.providers.items() if each.clearance is Sensitivity.RESTRICTED}
    assert cleared == {"anthropic-direct"}


def test_the_starting_file_needs_no_environment_and_warns_of_nothing() -> None:
    blueprint = build(load_config(EXAMPLES / "gearshift.yaml", {}), Catalogue.load())
    assert blueprint.warnings == ()
    assert set(blueprint.chains) == {each.word for each in TaskType}


def test_the_starting_files_comments_are_right_when_they_are_taken_in() -> None:
    text = (EXAMPLES / "gearshift.yaml").read_text().replace("<64 hex digits>", "0" * 64)
    lines = text.split("version: 1")[1].splitlines()
    # A commented line is configuration when it goes on to a key or an item.
    taken = [re.sub(r"^( *)# (?=( *)(- \{|[\w.-]+:))", r"\1", line) for line in lines]
    whole = "version: 1\n" + "\n".join(taken)
    env = {**ENV, "GROQ_KEY_A": "a", "GROQ_KEY_B": "b", "GPU_KEY": "c"}
    blueprint = build(parse_config(whole, env), Catalogue.load())
    assert set(blueprint.providers) == {"embedded", "ollama", "anthropic", "groq", "own-gpu"}
    assert "my-model" in blueprint.config.models
    assert blueprint.config.access.tenants["web"].limits.usd_per_day == 5


def test_the_tenants_of_the_example_are_what_their_comments_say() -> None:
    env = {**ENV, "ANTHROPIC_DIRECT_API_KEY": "k"}
    blueprint = build(load_config(EXAMPLES / "tenants.yaml", env), Catalogue.load())
    assert blueprint.warnings == ()
    access = blueprint.config.access
    assert access.keys_file and not access.open_reflection
    web, batch, clinic = (access.tenants[name] for name in ("web", "batch", "clinic"))
    assert web.on_exhausted in blueprint.chains and batch.on_exhausted == "stop"
    assert web.limits.usd_per_day is not None and web.limits.usd_per_month is not None
    # Each may send its tasks somewhere: somebody is cleared for them and open to the tenant.
    for tenant in (batch, clinic):
        for name in tenant.tasks:
            task = blueprint.tasks[name]
            sensitivity = max(task.sensitivity or Sensitivity.INTERNAL, Sensitivity.from_word(tenant.sensitivity_floor))
            assert sensitivity <= Sensitivity.from_word(tenant.clearance)
            assert any(
                stage.provider.name in tenant.providers and stage.provider.clearance >= sensitivity
                for stage in task.chain.stages
            )
