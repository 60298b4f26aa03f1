"""Keys, tenants and budgets in the file: what is wrong is told with its line and what to do."""

from __future__ import annotations

import pytest

from gearshift.core.catalogue import Catalogue
from gearshift.core.config.build import build
from gearshift.core.config.load import parse_config
from gearshift.core.config.model import STOP, AccessConfig, KeyConfig, expiry_of, has_keys
from gearshift.core.errors import ConfigError

HEAD = """\
version: 1
providers:
  own: {kind: ollama, base_url: "http://127.0.0.1:1"}
models:
  m: {provider: own, capability: high, context_tokens: 8192}
chains:
  generate: {stages: [{provider: own, model: m}]}
  savings: {stages: [{provider: own, model: m}]}
"""


def built(text: str) -> tuple[str, ...]:
    """Give the warnings."""
    return build(parse_config(HEAD + text, {}), Catalogue.load()).warnings


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        built(text)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            "access: {tenants: {a: {on_exhausted: saving, limits: {usd_per_day: 1}}}}",
            "9:38: access.tenants.a.on_exhausted: must be `stop` or a chain's name, not `saving`; did you mean `savings`?",
            id="unknown chain",
        ),
        pytest.param(
            "access: {tenants: {a: {providers: [owm]}}}",
            "access.tenants.a.providers[0]: unknown provider `owm`; did you mean `own`?",
            id="unknown provider",
        ),
        pytest.param(
            "access: {keys: [{id: a, tenant: default, sha256: " + "0" * 64 + ", expires: soon}]}",
            "`soon` is not a time: write 2027-01-31 or 2027-01-31T12:00:00Z (UTC)",
            id="expiry that is none",
        ),
        pytest.param(
            "access: {keys: [{id: a, tenant: default, sha256: " + "0" * 64 + ", expires: 2027-02-30}]}",
            "access.keys[0].expires: there is no such day or time: `2027-02-30`",
            id="no such day",
        ),
        pytest.param("access: {keysfile: x}", "unknown field; did you mean `keys_file`?", id="misspelt field"),
    ],
)
def test_wrong_access_is_told(text: str, told: str) -> None:
    assert told in problems(text)


def test_task_names_the_chain_for_its_spent_budget_too() -> None:
    job = "tasks: {declared: {a: {type: generate, on_exhausted: %s, limits: {%s}}}}"
    told = problems(job % ("saving", "usd_per_day: 1"))
    assert "tasks.declared.a.on_exhausted: must be `stop` or a chain's name, not `saving`" in told
    assert "did you mean `savings`?" in told
    assert "does nothing: limits.usd_per_day" in built(job % ("savings", "requests_per_minute: 1"))[0]
    assert not [told for told in built(job % ("savings", "usd_per_day: 1")) if "on_exhausted" in told]


def test_chain_for_a_spent_budget_of_an_embed_task_makes_like_vectors() -> None:
    text = """
version: 1
providers: {{own: {{kind: openai, dialect: compatible, base_url: http://127.0.0.1:9/v1, api_key: ''}}}}
models:
  wide: {{provider: own, capability: low, prices: {{input_usd: 1, output_usd: 0}}, dimensions: [{0}], vector_space: {1}}}
  cheap: {{provider: own, capability: low, prices: {{input_usd: 1, output_usd: 0}}, dimensions: [8], vector_space: one}}
chains:
  embed: {{stages: [{{provider: own, model: wide}}]}}
  savings: {{stages: [{{provider: own, model: cheap}}]}}
tasks: {{declared: {{a: {{type: embed, on_exhausted: savings, limits: {{usd_per_day: 1}}}}}}}}
"""
    build(parse_config(text.format(8, "one"), {}), Catalogue.load())
    for length, space in ((16, "one"), (8, "two")):
        with pytest.raises(ConfigError, match="no stage of `savings` makes vectors like those of wide"):
            build(parse_config(text.format(length, space), {}), Catalogue.load())


def test_chain_for_a_spent_budget_needs_a_budget() -> None:
    (told,) = built("access: {keys_file: keys, tenants: {a: {on_exhausted: savings}}}")
    assert "does nothing: limits.usd_per_day and limits.usd_per_month are both unset" in told
    assert built("access: {keys_file: keys, tenants: {a: {on_exhausted: savings, limits: {usd_per_month: 9}}}}") == ()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("server: {host: 0.0.0.0}", 2, id="neither keys nor TLS"),
        pytest.param("server: {host: 0.0.0.0}\naccess: {keys_file: keys}", 1, id="keys, no TLS"),
        pytest.param("server: {host: 0.0.0.0, tls: {certificate: a, key: b}}", 1, id="TLS, no keys"),
        pytest.param(
            "server: {host: 0.0.0.0, tls: {certificate: a, key: b}}\naccess: {keys_file: keys}", 0, id="keys and TLS"
        ),
        pytest.param("server: {http_host: 0.0.0.0}", 1, id="metrics for everybody"),
        pytest.param("server: {host: 127.0.0.1}", 0, id="loopback"),
    ],
)
def test_listening_beyond_this_machine_is_warned_of(text: str, count: int) -> None:
    told = [each for each in built(text) if "beyond this machine" in each]
    assert len(told) == count


def test_a_file_of_keys_closes_the_service_by_itself() -> None:
    assert not has_keys(AccessConfig())
    assert has_keys(AccessConfig(keys_file="keys"))
    assert has_keys(AccessConfig(keys=(KeyConfig(id="a", sha256="0" * 64, tenant="default"),)))


def test_expiry_is_a_day_or_a_second_in_utc() -> None:
    assert expiry_of("") == float("inf")
    assert expiry_of("1970-01-02") == 86_400
    assert expiry_of("1970-01-01T00:01:00Z") == 60
    assert expiry_of("1970-02-30") is None
    assert STOP == "stop"
