"""From a configuration to a blueprint: what names come to, which policy holds, and what is refused."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.blueprint import Blueprint
from gearshift.core.catalogue import Catalogue, Feature
from gearshift.core.config.build import build
from gearshift.core.config.load import parse_config
from gearshift.core.config.model import ChainConfig, Config, ProviderConfig, StageConfig
from gearshift.core.errors import ConfigError
from gearshift.core.request import JsonOutput, LabelOutput
from gearshift.core.words import Complexity, Sensitivity, SwitchMode, TaskType

CATALOGUE = Catalogue.load()
ENV = {"KEY": "sk-secret-value"}
PROVIDERS = """\
providers:
  ollama: {}
  anthropic: {api_key: "${KEY}"}
  voyage: {api_key: "${KEY}"}
"""


def built(text: str, *, own_kinds: tuple[str, ...] = ()) -> Blueprint:
    return build(parse_config(text, ENV), CATALOGUE, own_kinds=own_kinds)


def problems_of(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        built(text)
    return "\n".join(raised.value.problems)


def chain_of(*stages: str, settings: str = "") -> str:
    listed = ", ".join(f"{{{stage}}}" for stage in stages)
    return f"{PROVIDERS}chains: {{classify: {{stages: [{listed}]{settings}}}}}\n"


LLAMA = 'provider: ollama, model: "llama3.1:8b"'
HAIKU = "provider: anthropic, model: claude-haiku"
CLASSIFY = chain_of(LLAMA, HAIKU)


def task_of(settings: str, *, chains: str = CLASSIFY) -> str:
    return f"{chains}tasks: {{declared: {{triage: {{type: classify, {settings}}}}}}}\n"


# --- Providers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "kind", "dialect", "base_url"),
    [
        ("anthropic", "api_key: '${KEY}'", "anthropic", "", "https://api.anthropic.com"),
        ("ollama", "", "ollama", "", "http://127.0.0.1:11434"),
        ("ollama-2", "", "ollama", "", "http://127.0.0.1:11434"),
        ("voyage", "api_key: '${KEY}'", "voyage", "", "https://api.voyageai.com/v1"),
        ("openai", "api_key: '${KEY}'", "openai", "openai", "https://api.openai.com/v1"),
        ("groq-eu", "api_key: '${KEY}'", "openai", "groq", "https://api.groq.com/openai/v1"),
        ("deepseek", "kind: openai, api_key: '${KEY}'", "openai", "deepseek", "https://api.deepseek.com"),
        ("vllm", "", "openai", "vllm", "http://127.0.0.1:8000/v1"),
        ("llamacpp", "", "openai", "llamacpp", "http://127.0.0.1:8080/v1"),
        ("mine", "kind: openai, base_url: 'https://x.test/v1/'", "openai", "compatible", "https://x.test/v1"),
        ("mine", "kind: openai, dialect: groq, base_url: 'http://[::1]:9'", "openai", "groq", "http://[::1]:9"),
        ("embedded", "", "embedded", "", ""),
    ],
)
def test_a_providers_name_and_kind_tell_the_rest(
    name: str, settings: str, kind: str, dialect: str, base_url: str
) -> None:
    spec = built(f"providers: {{{name}: {{{settings}}}}}").providers[name]
    assert (spec.kind, spec.dialect) == (kind, dialect)
    assert [each.account.base_url for each in spec.accounts] == [base_url]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param("mine: {}", "kind: is missing, and the name `mine` does not tell it", id="no kind"),
        pytest.param("mine: {kind: olama}", "unknown kind `olama`; did you mean `ollama`?", id="misspelt kind"),
        pytest.param("mine: {kind: groq}", "unknown kind `groq` (a dialect of kind `openai`)", id="a dialect as kind"),
        pytest.param("mine: {kind: openai}", "base_url: is missing; this kind has no documented one", id="no place"),
        pytest.param("ollama: {dialect: groq}", "dialect: is for kind `openai` only", id="dialect of ollama"),
        pytest.param(
            "ollama: {embedded: {slots: 1}}", "embedded: is for kind `embedded` only", id="embedded elsewhere"
        ),
        pytest.param("embedded: {base_url: 'http://h'}", "makes its own socket", id="embedded with a place"),
        pytest.param("groq: {}", "api_key: is missing; api.groq.com takes no call without a key", id="no key"),
        pytest.param("ollama: {base_url: 'ftp://h'}", "must begin with https://, http:// or unix://", id="scheme"),
        pytest.param("ollama: {base_url: 'http://u:hush@h'}", "must not hold a user or password", id="password in URL"),
        pytest.param("ollama: {base_url: 'http://h?x=1'}", "must be scheme, host and path only", id="query in URL"),
        pytest.param("ollama: {base_url: 'http://'}", "has no host", id="no host"),
        pytest.param("ollama: {base_url: 'http://[::1'}", "is not a URL", id="half an address"),
        pytest.param("ollama: {base_url: 'http://h:99999'}", "is not a URL", id="port out of range"),
        pytest.param(
            "ollama: {base_url: 'unix://run/x'}", "must be such as `unix:///run/model.sock`", id="relative socket"
        ),
        pytest.param("ollama: {accounts: [{name: a}, {name: a}]}", "account `a` stands twice", id="account twice"),
        pytest.param("ollama: {headers: {'X Y': a}}", 'headers["X Y"]: is not the name of a header', id="header"),
        pytest.param("ollama: {breaker: {open_s: 9, max_open_s: 3}}", "must not be below open_s (9)", id="breaker"),
        pytest.param(
            "ollama: {base_url: 'http://10.0.0.5:11434', clearance: restricted}",
            "clearance: restricted needs TLS",
            id="restricted over plain http",
        ),
        pytest.param(
            "openai: {base_url: 'https://h', clearance: restricted, "
            "accounts: [{name: a}, {name: b, base_url: 'http://10.0.0.5'}]}",
            "clearance: restricted needs TLS",
            id="one account over plain http",
        ),
    ],
)
def test_a_wrong_provider_says_what_is_wrong(settings: str, told: str) -> None:
    problems = problems_of(f"providers: {{{settings}}}")
    assert told in problems
    assert "hush" not in problems


@pytest.mark.parametrize(
    "settings",
    [
        "anthropic: {api_key: '${KEY}', clearance: restricted}",
        "ollama: {clearance: restricted}",
        "ollama: {base_url: 'unix:///run/o.sock', clearance: restricted}",
        "ollama: {base_url: 'http://localhost:1', clearance: restricted}",
        "embedded: {clearance: restricted}",
    ],
)
def test_tls_and_paths_without_network_may_be_restricted(settings: str) -> None:
    (spec,) = built(f"providers: {{{settings}}}").providers.values()
    assert spec.secure
    assert spec.clearance is Sensitivity.RESTRICTED


def test_self_hosted_providers_are_cleared_for_internal_only() -> None:
    assert built(CLASSIFY).providers["ollama"].clearance is Sensitivity.INTERNAL


def test_accounts_take_the_providers_values_where_they_have_none() -> None:
    text = """\
providers:
  groq:
    api_key: ${KEY}
    headers: {X-Team: a}
    limits: {concurrency: 4}
    accounts:
      - {name: one, weight: 2}
      - {name: two, api_key: own, base_url: "https://h.test", limits: {concurrency: 9}}
"""
    one, two = built(text).providers["groq"].accounts
    assert (one.account.api_key, one.account.weight, one.limits.concurrency) == ("sk-secret-value", 2, 4)
    assert (two.account.api_key, two.account.base_url, two.limits.concurrency) == ("own", "https://h.test", 9)
    assert one.account.headers == {"X-Team": "a"}


def test_kinds_of_plug_ins_are_known_but_not_trusted_without_a_place() -> None:
    spec = built("providers: {mine: {kind: acme}}", own_kinds=("acme",)).providers["mine"]
    assert spec.kind == "acme"
    assert not spec.secure


# --- Models and stages -------------------------------------------------------------------------------------------------


def test_aliases_become_the_models_of_today() -> None:
    stages = built(CLASSIFY).chains["classify"].stages
    assert [each.ref.model for each in stages] == ["llama3.1:8b", "claude-haiku-5-5"]
    assert [each.ref.position for each in stages] == [0, 1]
    assert [each.ref.capability for each in stages] == [Complexity.LOW, Complexity.MEDIUM]


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        pytest.param(
            ["provider: olama, model: m"],
            "gearshift.yaml:5:41: chains.classify.stages[0].provider: unknown provider `olama`; did you mean `ollama`?",
            id="provider",
        ),
        pytest.param(
            ["provider: anthropic, model: claude-haku"],
            "gearshift.yaml:5:59: chains.classify.stages[0].model: unknown model `claude-haku` for `anthropic` "
            "(anthropic); did you mean `claude-haiku`? "
            '(or declare it: models: {"claude-haku": {provider: anthropic, capability: medium}})',
            id="model",
        ),
        pytest.param(
            [f"{LLAMA}, max_retries: 1", f"{LLAMA}, max_retries: 3"],
            "stages[1].model: ollama llama3.1:8b stands in stage 0 already, with the same settings",
            id="the same stage twice",
        ),
        pytest.param(
            [HAIKU, "provider: anthropic, model: claude-haiku-5-5"],
            "anthropic claude-haiku-5-5 stands in stage 0 already",
            id="the same stage under two names",
        ),
        pytest.param([f"{HAIKU}, max_tokens: 999999"], "999999 is more than claude-haiku-5-5 writes", id="too long"),
        pytest.param(["provider: voyage, model: voyage-4"], "voyage-4 makes embeddings only", id="vectors for text"),
    ],
)
def test_a_wrong_stage_says_what_is_wrong(stages: list[str], told: str) -> None:
    assert told in problems_of(chain_of(*stages))


def test_one_model_may_stand_twice_with_other_settings() -> None:
    stages = built(chain_of(f"{LLAMA}, temperature: 0", f"{LLAMA}, temperature: 1", f"{LLAMA}, label: third"))
    assert len(stages.chains["classify"].stages) == 3


def test_a_chain_made_in_python_needs_stages() -> None:
    with pytest.raises(ConfigError, match=r"chains\.x\.stages: must not be empty"):
        build(Config(chains={"x": ChainConfig(stages=())}), CATALOGUE)


def test_a_configuration_made_in_python_is_checked_like_a_file() -> None:
    config = Config(
        providers={"ollama": ProviderConfig(clearance="top", connections=0)},
        chains={"x": ChainConfig(stages=(StageConfig(provider="ollama", model="llama3.1:8b", temperature=9),))},
    )
    with pytest.raises(ConfigError) as raised:
        build(config, CATALOGUE)
    assert raised.value.problems == (
        "providers.ollama.clearance: `top` is not one of `public`, `internal`, `restricted`",
        "providers.ollama.connections: must be a whole number from 1 to 10,000, not `0`",
        "chains.x.stages[0].temperature: must be a number from 0 to 2, not `9`",
    )


def test_a_configuration_made_in_python_stays_as_it_is() -> None:
    stage = StageConfig(provider="ollama", model="llama3.1:8b", extra_body={"a": ["${X}", None, 1.5, {"b": True}]})
    config = Config(
        providers={"ollama": ProviderConfig(api_key="${KEY}", cost_per_hour_usd=Decimal("0.10"))},
        chains={"x": ChainConfig(stages=(stage,))},
    )
    assert build(config, CATALOGUE).config == config


@pytest.mark.parametrize(("value", "told"), [(float("nan"), "must be a finite number"), (object(), "type object")])
def test_a_configuration_made_in_python_holds_only_what_json_can(value: object, told: str) -> None:
    stage = StageConfig(provider="ollama", model="llama3.1:8b", extra_body={"x": value})
    config = Config(providers={"ollama": ProviderConfig()}, chains={"x": ChainConfig(stages=(stage,))})
    with pytest.raises(ConfigError, match=told):
        build(config, CATALOGUE)


def test_a_broken_provider_is_told_once() -> None:
    text = "providers: {mine: {}}\nchains: {x: {stages: [{provider: mine, model: a}, {provider: mine, model: b}]}}\n"
    text += "tasks: {declared: {t: {type: generate, chain: x}}}"
    assert problems_of(text).count("\n") == 0


MINE = "providers: {mine: {kind: openai, base_url: 'https://h.test'}, ollama: {}}\n"


def test_a_declared_model_is_known_to_all_providers_of_its_kind() -> None:
    text = """\
providers: {ollama: {}, ollama-2: {base_url: "http://127.0.0.1:2"}}
models:
  big: {provider: ollama, wire_id: "big:70b", capability: high, context_tokens: 8192, options: {think: "no"}}
chains: {generate: {stages: [{provider: ollama, model: big}, {provider: ollama-2, model: big}]}}
"""
    model = built(text).chains["generate"].stages[1].model
    assert (model.id, model.wire_id, model.capability) == ("big", "big:70b", Complexity.HIGH)
    assert model.self_hosted
    assert Feature.TOOLS in model.features
    assert (model.context_tokens, model.options) == (8192, {"think": "no"})


def test_like_takes_over_what_is_not_said() -> None:
    text = """\
providers: {anthropic: {api_key: "${KEY}"}}
models:
  mine: {provider: anthropic, like: ours, capability: high}
  ours: {provider: anthropic, like: claude-haiku, prices: {input_usd: 0.08, output_usd: 0.4}}
  claude-opus: {provider: anthropic, like: claude-opus, max_output_tokens: 1000}
chains: {reason: {stages: [{provider: anthropic, model: mine}, {provider: anthropic, model: claude-opus}]}}
"""
    mine, opus = (each.model for each in built(text).chains["reason"].stages)
    haiku = CATALOGUE.find("anthropic", "claude-haiku")
    assert haiku is not None
    assert (mine.id, mine.wire_id, mine.capability) == ("mine", haiku.wire_id, Complexity.HIGH)
    assert mine.features == haiku.features
    assert mine.prices is not None
    assert mine.prices.periods[0].tiers[0].input_usd == Decimal("0.08")
    assert (opus.wire_id, opus.max_output_tokens) == ("claude-opus-5-5", 1000)


def test_a_model_with_dimensions_embeds_in_a_space_of_its_own() -> None:
    text = f"{MINE}models: {{e: {{provider: mine, capability: low, dimensions: [8]}}}}\n"
    model = built(text + "chains: {embed: {stages: [{provider: mine, model: e}]}}").chains["embed"].stages[0].model
    assert model.features == {Feature.EMBED}
    assert (model.vector_space, model.dimensions) == ("e", (8,))


@pytest.mark.parametrize(
    ("models", "told"),
    [
        pytest.param("a: {provider: nobody, capability: low}", "unknown provider `nobody`", id="provider"),
        pytest.param("a: {provider: mine}", "capability: is missing; low, medium or high", id="capability"),
        pytest.param("a: {provider: ollama, like: 'llama3.1:9b'}", "did you mean `llama3.1:8b`?", id="like"),
        pytest.param("a: {provider: mine, like: a}", "unknown model `a`", id="like itself, unknown"),
        pytest.param(
            "a: {provider: mine, like: b}, b: {provider: mine, like: c}, c: {provider: mine, like: b}",
            "models.b.like: goes in a circle: b → c → b",
            id="a circle",
        ),
        pytest.param(
            "a: {provider: mine, like: b}, b: {provider: ollama, capability: low}", "of another kind", id="another kind"
        ),
        pytest.param(
            "a: {provider: mine, capability: low, prices: {input_usd: 0.1234567}}", "at most 6 decimals", id="too fine"
        ),
        pytest.param("a: {provider: mine, capability: low, features: [tool]}", "did you mean `tools`?", id="feature"),
    ],
)
def test_a_wrong_model_says_what_is_wrong(models: str, told: str) -> None:
    assert told in problems_of(f"{MINE}models: {{{models}}}")


# --- Policies ----------------------------------------------------------------------------------------------------------


def test_policies_are_laid_over_each_other() -> None:
    text = task_of(
        "policy: {min_confidence: 0.95, second_look: true}",
        chains=chain_of(LLAMA, settings=", policy: {max_hops: 1, second_look: false, escalation_threshold: 0.5}"),
    )
    text += "defaults: {max_attempts: 3, max_hops: 9, max_cost_usd: 0.05}\ngates: {min_confidence: 0.9}\n"
    blueprint = built(text)
    chain, task = blueprint.chains["classify"].policy, blueprint.tasks["triage"].policy
    assert (chain.max_attempts, chain.max_hops, chain.max_cost_usd) == (3, 1, Decimal("0.05"))
    assert (chain.min_confidence, chain.escalation_threshold, chain.second_look) == (0.9, 0.5, False)
    assert (task.max_hops, task.min_confidence, task.escalation_threshold, task.second_look) == (1, 0.95, 0.5, True)
    assert not task.require_valid


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{CLASSIFY}gates: {{min_confidence: 0.7}}", "gates.escalation_threshold"),
        (
            chain_of(LLAMA, settings=", policy: {min_confidence: 0.5}"),
            "chains.classify.policy.escalation_threshold: 0.75 must not be above min_confidence (0.5)",
        ),
        (task_of("policy: {escalation_threshold: 0.9}"), "tasks.declared.triage.policy.escalation_threshold"),
        (
            "access: {tenants: {t: {policy: {min_confidence: 0.5, escalation_threshold: 0.6}}}}",
            "access.tenants.t.policy.escalation_threshold",
        ),
    ],
)
def test_no_answer_may_be_accepted_and_escalated_at_once(text: str, place: str) -> None:
    assert place in problems_of(text)


def test_the_capability_matrix_keeps_what_the_file_leaves_out() -> None:
    matrix = built("defaults: {complexity: {extract: high}}").capability_matrix
    assert matrix == {
        TaskType.CLASSIFY: Complexity.LOW,
        TaskType.EXTRACT: Complexity.HIGH,
        TaskType.GENERATE: Complexity.HIGH,
        TaskType.REASON: Complexity.HIGH,
        TaskType.EMBED: Complexity.LOW,
    }
    assert "did you mean `extract`?" in problems_of("defaults: {complexity: {extrct: high}}")


def test_the_stream_policy_of_a_task_is_its_own_or_the_files() -> None:
    text = f"{CLASSIFY}stream: {{hold_back_tokens: 8, mode: fail}}\n"
    text += "tasks: {declared: {a: {type: classify}, b: {type: classify, stream: {mode: continue}}}}"
    blueprint = built(text)
    assert blueprint.tasks["a"].stream == blueprint.stream
    assert (blueprint.stream.hold_back_tokens, blueprint.stream.mode) == (8, SwitchMode.FAIL)
    assert blueprint.tasks["b"].stream.mode is SwitchMode.CONTINUE
    assert "is not one of `regenerate`, `continue`, `fail`" in problems_of("stream: {mode: restore}")


# --- Tasks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param("chain: clasify", "unknown chain `clasify`; did you mean `classify`?", id="unknown chain"),
        pytest.param(
            "sensitivity: restricted",
            "gearshift.yaml:6:58: tasks.declared.triage.sensitivity: no provider in chain `classify` is cleared for "
            "restricted",
            id="nobody is cleared",
        ),
        pytest.param("complexity: high", "no stage of chain `classify` that may see it has capability high", id="weak"),
        pytest.param("output: {}", "output: needs labels or json_schema", id="empty output"),
        pytest.param("output: {labels: [a, b, a]}", "output.labels[2]: `a` stands twice", id="label twice"),
        pytest.param("output: {labels: [a, '']}", "output.labels[1]: is empty", id="empty label"),
        pytest.param("output: {labels: [a], json_schema: {}}", "has both labels and json_schema", id="both"),
        pytest.param(
            "output: {labels: [billing, bug], examples: [{text: x, label: biling}]}",
            "output.examples[0].label: `biling` is not among the labels; did you mean `billing`?",
            id="example of no label",
        ),
        pytest.param(
            "output: {labels: [a], examples: [{text: x, json: '1'}]}", "is for json_schema", id="JSON for labels"
        ),
        pytest.param("output: {json_schema: {type: objekt}}", "is not a schema that can be used", id="bad schema"),
        pytest.param(
            "output: {json_schema: {$ref: 'https://h.test/x'}}", "is not a schema that can be used", id="remote schema"
        ),
        pytest.param("output: {json_schema: {}, examples: [{text: x, json: '{'}]}", "is not JSON", id="bad JSON"),
        pytest.param(
            "output: {json_schema: {}, examples: [{text: x, label: a}]}", "is for labels", id="label for JSON"
        ),
        pytest.param(
            "output: {json_schema: {type: object}, examples: [{text: x, json: '[]'}]}",
            "does not keep to the schema",
            id="example against the schema",
        ),
    ],
)
def test_a_wrong_task_says_what_is_wrong(settings: str, told: str) -> None:
    assert told in problems_of(task_of(settings))


def test_restricted_answers_have_no_cache() -> None:
    assert "triage.cache: restricted answers are never kept" in problems_of(
        task_of("sensitivity: restricted, cache: {}")
    )


def test_an_embed_task_has_no_cache_of_answers() -> None:
    told = problems_of(task_of("chain: classify, cache: {}").replace("type: classify", "type: embed"))
    assert "triage.cache: keeps answers; vectors are kept without it" in told


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        pytest.param("cache: {}", True, id="a temperature that nobody set"),
        pytest.param("cache: {}, temperature: 0.7", True, id="above 0"),
        pytest.param("cache: {}, temperature: 0", False, id="0"),
        pytest.param("cache: {any_temperature: true}", False, id="any"),
        pytest.param("temperature: 0.7", False, id="no cache"),
    ],
)
def test_a_cache_that_chance_keeps_empty_is_told_of(settings: str, warns: bool) -> None:
    made = built(task_of(settings))
    assert any("any_temperature" in warning for warning in made.warnings) is warns


def test_a_task_without_chain_needs_one_of_its_type() -> None:
    assert "no chain is named `extract`" in problems_of(f"{CLASSIFY}tasks: {{declared: {{x: {{type: extract}}}}}}")


def test_a_restricted_task_needs_one_cleared_and_secure_stage() -> None:
    text = f"""\
providers: {{anthropic: {{api_key: "${{KEY}}", clearance: restricted}}, ollama: {{}}}}
chains: {{classify: {{stages: [{{{LLAMA}}}, {{{HAIKU}}}]}}}}
tasks: {{declared: {{t: {{type: classify, sensitivity: restricted, complexity: medium}}}}}}
"""
    assert built(text).tasks["t"].sensitivity is Sensitivity.RESTRICTED


def test_a_capable_stage_that_may_not_see_the_task_does_not_count() -> None:
    text = f"""\
providers: {{anthropic: {{api_key: "${{KEY}}"}}, ollama: {{clearance: restricted}}}}
chains: {{classify: {{stages: [{{{LLAMA}}}, {{{HAIKU}}}]}}}}
tasks: {{declared: {{t: {{type: classify, sensitivity: restricted, complexity: medium}}}}}}
"""
    assert "no stage of chain `classify` that may see it" in problems_of(text)


def test_a_public_provider_may_not_serve_a_task_of_unset_sensitivity() -> None:
    text = "providers: {ollama: {clearance: public}}\n"
    text += f"chains: {{classify: {{stages: [{{{LLAMA}}}]}}}}\ntasks: {{declared: {{t: {{type: classify}}}}}}"
    assert "is cleared for internal" in problems_of(text)


def test_embed_tasks_need_models_that_embed() -> None:
    text = f"{CLASSIFY}tasks: {{declared: {{t: {{type: embed, chain: classify}}}}}}"
    assert "llama3.1:8b makes no embeddings" in problems_of(text)
    text = f"{CLASSIFY}tasks: {{declared: {{t: {{type: embed, chain: classify, output: {{labels: [a]}}}}}}}}"
    assert "an embed task gives vectors" in problems_of(text)


def test_outputs_become_what_the_engine_takes() -> None:
    text = task_of("output: {labels: [no, yes], examples: [{text: x, label: no}]}")
    assert built(text).tasks["triage"].output == LabelOutput(labels=("no", "yes"), examples=(("x", "no"),))
    text = task_of(
        "output: {json_schema: {type: object, properties: {b: {}, a: {}}}, examples: [{text: x, json: '{}'}]}"
    )
    output = built(text).tasks["triage"].output
    assert output == JsonOutput(schema='{"type":"object","properties":{"b":{},"a":{}}}', examples=(("x", "{}"),))


# --- The whole file ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            "access: {keys: [{id: a, sha256: '" + "0" * 64 + "', tenant: x}], tenants: {web: {}}}",
            "access.keys[0].tenant: unknown tenant `x`; known: `web`",
            id="key of nobody",
        ),
        pytest.param(
            "access: {keys: [{id: a, sha256: '" + "0" * 64 + "', tenant: default}, {id: a, sha256: '" + "0" * 64
            + "', tenant: default}]}",
            "access.keys[1].id: key `a` stands twice",
            id="key twice",
        ),
        pytest.param(
            "access: {tenants: {t: {sensitivity_floor: internal, clearance: public}}}",
            "is below its sensitivity_floor (internal)",
            id="floor above clearance",
        ),
        pytest.param(
            "access: {tenants: {t: {sensitivity_floor: restricted}}}", "no provider is cleared for it", id="floor of nobody"
        ),
        pytest.param(
            task_of("max_tokens: 5") + "access: {tenants: {t: {models: [claude-haiku-5-6]}}}",
            "model `claude-haiku-5-6` is in no chain; did you mean `claude-haiku-5-5`?",
            id="model of no chain",
        ),
        pytest.param(
            f"{CLASSIFY}tasks: {{strict: true, declared: {{triage: {{type: classify}}}}}}\n"
            "access: {tenants: {t: {tasks: [triag]}}}",
            "task `triag` is not declared, and tasks.strict is set; did you mean `triage`?",
            id="task of nobody",
        ),
        pytest.param("server: {port: 9464}", "server.http_port: is the gRPC port (9464) as well", id="one port twice"),
        pytest.param("retry: {base_s: 9, max_s: 1}", "must not be below base_s (9)", id="backoff"),
    ],
)  # fmt: skip
def test_rules_across_the_file(text: str, told: str) -> None:
    assert told in problems_of(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("{}", "there is no chain", id="no chain"),
        pytest.param("server: {host: 0.0.0.0}", "without keys: anybody may spend your money", id="no keys"),
        pytest.param("server: {host: '::'}", "without TLS", id="no TLS"),
        pytest.param("server: {http_host: 10.1.1.1}", "the HTTP port listens beyond this machine", id="HTTP"),
        pytest.param(
            f"{MINE}models: {{m: {{provider: mine, capability: low}}}}\nchains: {{x: {{stages: [{{provider: mine, model: m}}]}}}}",
            "chains.x.stages[0].model: the price of m is unknown",
            id="no price",
        ),
        pytest.param(
            f"providers: {{ollama: {{base_url: 'https://h.test'}}}}\nchains: {{x: {{stages: [{{{LLAMA}}}]}}}}",
            "`ollama` has no cost_per_hour_usd: its cost is unknown, not zero",
            id="a machine without cost",
        ),
        pytest.param("access: {tenants: {web: {}}}", "the others have no way in", id="tenants without keys"),
        pytest.param(
            f"{PROVIDERS}chains: {{embed: {{stages: [{{provider: ollama, model: nomic-embed-text}}, "
            "{provider: voyage, model: voyage-4}]}}",
            "voyage-4 makes vectors of another space (voyage-4) than the chain's first stage (nomic-embed-text-v1.5)",
            id="two vector spaces",
        ),
        pytest.param("providers: {groq: {api_key: sk-plain}}", "a key stands in the file", id="a key in the file"),
    ],
)
def test_an_operator_is_warned(text: str, told: str) -> None:
    assert any(told in warning for warning in built(text).warnings)


def test_a_good_file_warns_of_nothing() -> None:
    assert built(CLASSIFY).warnings == ()


def test_one_space_or_a_declared_change_is_no_warning() -> None:
    embed = "chains: {embed: {stages: [{provider: voyage, model: voyage-4}, {provider: voyage, model: voyage-4-lite}]}}"
    assert built(PROVIDERS + embed).warnings == ()
    embed = embed.replace("voyage-4-lite}]", "voyage-3}], allow_space_change: true")
    assert built(PROVIDERS + embed).warnings == ()


_LINES = (Path(__file__).parents[2] / "deploy/examples/decision-matrix.yaml").read_text().splitlines()[15:]
_EDITS = st.tuples(
    st.sampled_from(["drop", "twice", "swap", "word"]),
    st.integers(0, len(_LINES) - 1),
    st.sampled_from(["ollama", "classify", "restricted", "[]", "{}", "null", "-1", "x", "http://h", "1e3", "true"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_EDITS, min_size=1, max_size=4))
def test_any_edit_of_a_file_is_built_or_refused_with_problems(edits: list[tuple[str, int, str]]) -> None:
    lines = list(_LINES)
    for kind, number, word in edits:
        at = number % len(lines)
        if kind == "drop":
            del lines[at]
        elif kind == "twice":
            lines.insert(at, lines[at])
        elif kind == "swap":
            lines[at] = re.sub(r": [^,}{]+", f": {word}", lines[at], count=1)
        else:
            lines[at] = re.sub(r"\w+:", f"{word}:", lines[at], count=1)
    env = {f"{name}_API_KEY": "sk-secret" for name in ("ANTHROPIC", "GROQ", "DEEPSEEK")}
    try:
        assert build(parse_config("\n".join(lines), env), CATALOGUE).revision
    except ConfigError as error:
        assert error.problems
        assert "sk-secret" not in str(error)


# --- Revisions ---------------------------------------------------------------------------------------------------------


def test_hashes_change_with_what_they_are_of_and_with_nothing_else() -> None:
    text = task_of("output: {labels: [a, b]}")
    one = built(text)
    again = built(text.replace("api_key", "headers: {Authorization: other}, api_key"))
    assert one.revision != again.revision  # a header was added,
    assert one.chains["classify"].revision == again.chains["classify"].revision  # which no chain depends on
    keyed = build(parse_config(text, {"KEY": "another"}), CATALOGUE)
    assert keyed.revision == one.revision
    limited = built(text.replace("output", "policy: {max_hops: 1}, limits: {concurrency: 1}, output"))
    assert limited.tasks["triage"].definition_hash == one.tasks["triage"].definition_hash
    assert limited.revision != one.revision
    changed = built(text.replace("[a, b]", "[a, c]"))
    assert changed.tasks["triage"].definition_hash != one.tasks["triage"].definition_hash
    warmer = built(text.replace(LLAMA, f"{LLAMA}, temperature: 1"))
    assert warmer.chains["classify"].revision != one.chains["classify"].revision
    assert warmer.tasks["triage"].definition_hash == one.tasks["triage"].definition_hash


def test_hashes_are_the_same_in_every_process() -> None:
    first, second = (built(task_of("output: {labels: [a, b]}")) for _ in range(2))
    assert first.revision == second.revision
    assert len(first.revision) == 64


def test_a_queue_that_cannot_be_told_limits_nothing() -> None:
    text = "providers: {anthropic: {api_key: k, pressure: {max_queued: 3}}}"
    assert "`anthropic` is no machine whose queue can be told" in problems_of(text)


@pytest.mark.parametrize("provider", ["ollama: {", "vllm: {", "llamacpp: {", "embedded: {"])
def test_the_queue_of_a_machine_may_be_limited(provider: str) -> None:
    made = built(f"providers: {{{provider}pressure: {{max_queued: 3, interval_s: 1}}}}}}")
    (spec,) = made.providers.values()
    assert (spec.pressure.max_queued, spec.pressure.interval_s) == (3, 1)


def test_weights_of_an_order_that_is_written_are_told_to_have_no_effect() -> None:
    stages = "stages: [{provider: ollama, model: 'llama3.1:8b'}]"
    text = "providers: {ollama: {}}\nchains: {x: {adaptive: {probe_share: 0.1}, order: ORDER, STAGES}}"
    text = text.replace("STAGES", stages)
    for order, count in (("written", 1), ("adaptive", 0)):
        made = built(text.replace("ORDER", order))
        assert sum("without `order: adaptive`" in each for each in made.warnings) == count
        assert made.chains["x"].weights.probe_share == 0.1
