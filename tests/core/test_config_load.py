"""Reading gearshift.yaml: places, suggestions, bounds, secrets, and what YAML scalars mean."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.config.document import MOST_BYTES, MOST_DEPTH
from gearshift.core.config.load import LoadedConfig, load_config, parse_config
from gearshift.core.config.model import Config
from gearshift.core.errors import ConfigError

KEY = "sk-very-secret-1234567890"


def problems_of(text: str, env: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        parse_config(text, env or {})
    return raised.value.problems


def one_stage(settings: str) -> str:
    return f"chains: {{classify: {{stages: [{{provider: ollama, model: m, {settings}}}]}}}}"


def stage_body(settings: str) -> dict[str, object]:
    loaded = parse_config(one_stage(f"extra_body: {{{settings}}}"), {})
    return loaded.config.chains["classify"].stages[0].extra_body


@pytest.mark.parametrize("text", ["", "# nothing\n", "version: 1\nproviders:\nchains:\ngates:\n"])
def test_an_empty_file_is_the_defaults(text: str) -> None:
    assert parse_config(text, {}).config == Config()


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = """\
provders: {}
providers:
  ollama:
    connections: 1.5
    clearance: Restricted
chains:
  classify: {stages: []}
  generate: {stages: [{provider: ollama}], order: writen}
telemetry: {log_chain_position: yes}
"""
    assert problems_of(text) == (
        "gearshift.yaml:1:1: provders: unknown field; did you mean `providers`?",
        "gearshift.yaml:4:18: providers.ollama.connections: must be a whole number from 1 to 10,000, not `1.5`",
        "gearshift.yaml:5:16: providers.ollama.clearance: `Restricted` is not one of `public`, `internal`, `restricted`"
        + "; did you mean `restricted`?",
        "gearshift.yaml:7:14: chains.classify.stages: must not be empty",
        "gearshift.yaml:8:23: chains.generate.stages[0].model: is missing",
        "gearshift.yaml:8:51: chains.generate.order: `writen` is not one of `written`, `adaptive`; "
        + "did you mean `written`?",
        "gearshift.yaml:9:33: telemetry.log_chain_position: must be true or false, not `yes`",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param(
            "gates: {min_confidence: 1.5}", "1:25: gates.min_confidence: must be a number from 0 to 1", id="range"
        ),
        pytest.param(
            "gates: {min_confidence: high}", "must be a number from 0 to 1, not `high`", id="text for a number"
        ),
        pytest.param('gates: {min_confidence: "0.9"}', "not `0.9` in quotes", id="a quoted number"),
        pytest.param("gates: [1]", "1:1: gates: must be a mapping of `min_confidence`", id="a list for a mapping"),
        pytest.param("chains: {classify: {stages: 3}}", "chains.classify.stages: must be a list", id="no list"),
        pytest.param(
            one_stage("temperature: [1]"), "must be a number from 0 to 2, not a list", id="a list for a number"
        ),
        pytest.param(one_stage("label:"), 'label: has no value; for an empty text write ""', id="text without value"),
        pytest.param(one_stage("max_retries: 11"), "must be a whole number from 0 to 10, not `11`", id="too many"),
        pytest.param("caching: {min_prompt_length: 1_000}", "must be a whole number", id="underscores"),
        pytest.param("version: 2", "version: must be 1, not `2`", id="another version"),
        pytest.param("providers: {'a b': {}}", '["a b"]: `a b` is not a name', id="a bad name"),
        pytest.param(
            "providers: {o: {cost_per_hour_usd: -1}}", "must be a number from 0, not `-1`", id="negative money"
        ),
        pytest.param("caching: {ttl_minutes: .inf}", "must be a number above 0", id="infinity"),
        pytest.param(one_stage("extra_body: {a: .nan}"), "extra_body.a: must be a finite number", id="NaN for JSON"),
        pytest.param("gates: {x: 1}\ngates: {}", "2:1: gates: stands twice; first in line 1", id="a key twice"),
        pytest.param(one_stage("extra_body: {a: 1, a: 2}"), "extra_body.a: stands twice", id="a key twice, deep down"),
        pytest.param("- a", "1:1: must be a mapping of `version`", id="a list"),
        pytest.param("hello", "1:1: must be a mapping of `version`", id="a word"),
        pytest.param("a: b: c", "1:5: not YAML: a second `:` in this line", id="two colons"),
        pytest.param("gates:\n\tx: 1", "2:1: a tab may not indent", id="a tab"),
        pytest.param("gates: {", "not YAML", id="open bracket"),
        pytest.param("version: 1\n---\nversion: 1", "2:1: holds a second document", id="two documents"),
        pytest.param("a: !!python/object/apply:os.system [x]", "tags are not supported", id="a tag"),
        pytest.param("a: !own x", "1:4: tags are not supported", id="an own tag"),
        pytest.param("a: &a {x: 1}\nb: {<<: *a}\ngates: {<<: *a}", "merge keys are not supported", id="a merge key"),
        pytest.param("[a]: 1", "a key must be text", id="a list as key"),
        pytest.param("a: *b", "1:4: alias `*b` has no anchor before it", id="an unknown alias"),
        pytest.param("a: &a [*a]", "1:8: alias `*a` stands inside what it names", id="a circle"),
        pytest.param("a: \x00", "1:4: holds a character that YAML does not allow", id="a control character"),
        pytest.param("~: 1", "a key has no name", id="no key"),
        pytest.param("[" * (MOST_DEPTH + 1), f"deeper than {MOST_DEPTH} levels", id="too deep"),
        pytest.param("#" * (MOST_BYTES + 1), "larger than 1024 KiB", id="too large"),
        pytest.param('a: "\ud800"', "is not YAML", id="half a character"),
        pytest.param(
            "chains: {c: {stages: [" + "{provider: o, model: m}," * 33 + "]}}",
            "at most 32 items, not 33",
            id="too many stages",
        ),
        pytest.param(
            "access: {keys: [{id: k, sha256: abc, tenant: t}]}", "`abc` is not a SHA-256 digest", id="a bad digest"
        ),
    ],
)
def test_a_wrong_file_says_what_is_wrong(text: str, told: str) -> None:
    assert told in "\n".join(problems_of(text))


def test_aliases_count_as_what_they_stand_for() -> None:
    levels = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 9))
    assert "more than 100,000 values" in problems_of("x0: &x0 [1, 1]\n" + levels)[0]


def test_a_chain_of_aliases_cannot_nest_deeper_than_the_limit() -> None:
    levels = "".join(f"x{n}: &x{n} [*x{n - 1}]\n" for n in range(1, 200))
    assert "is nested deeper" in problems_of("x0: &x0 [1]\n" + levels)[0]


def test_a_file_with_nothing_right_ends_after_a_hundred_problems() -> None:
    problems = problems_of("".join(f"k{number}: 1\n" for number in range(20_000)))
    assert len(problems) == 101
    assert "there may be more" in problems[-1]


def test_an_alias_is_read_as_what_it_stands_for() -> None:
    text = "providers: {a: {timeouts: &slow {total_s: 300}}, b: {timeouts: *slow}}"
    assert parse_config(text, {}).config.providers["b"].timeouts.total_s == 300


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("llama3.1:8b", "llama3.1:8b"),
        ("12:30:45", "12:30:45"),
        ("no", "no"),
        ("3.10", "3.10"),
        ("0123", "0123"),
        ("2026-11-23", "2026-11-23"),
        ("true", "true"),
        ("'null'", "null"),
        ("$${HOME}", "${HOME}"),
    ],
)
def test_text_stays_as_it_is_written(written: str, read: str) -> None:
    loaded = parse_config(f"chains:\n  c:\n    stages:\n      - provider: ollama\n        model: {written}\n", {})
    assert loaded.config.chains["c"].stages[0].model == read


def test_values_of_any_type_are_read_as_yaml_1_2_says() -> None:
    body = stage_body(
        'a: no, b: 0123, c: 1e3, d: 12:30, e: null, f: "1", g: true, h: [0x1F, 0o17], i: {j: -1.5}, k: off'
    )
    assert body == {
        "a": "no",
        "b": 123,
        "c": 1000.0,
        "d": "12:30",
        "e": None,
        "f": "1",
        "g": True,
        "h": [31, 15],
        "i": {"j": -1.5},
        "k": "off",
    }


def test_money_is_exact() -> None:
    text = "providers: {o: {cost_per_hour_usd: 0.1000000000000000055511151231257827}}"
    value = parse_config(text, {}).config.providers["o"].cost_per_hour_usd
    assert value == Decimal("0.1000000000000000055511151231257827")


@pytest.mark.parametrize("number", ["1e999999999", "9" * 5000, "1e400"])
@pytest.mark.parametrize("field", ["cost_per_hour_usd", "connections", "parallelism"])
def test_absurd_numbers_are_refused_at_once(number: str, field: str) -> None:
    assert "must be a" in problems_of(f"providers: {{o: {{{field}: {number}}}}}")[0]


def test_secrets_come_from_the_environment() -> None:
    text = 'providers:\n  groq:\n    api_key: ${GROQ_API_KEY}\n    headers: {X-Auth: "Bearer ${GROQ_API_KEY}"}\n'
    loaded = parse_config(text, {"GROQ_API_KEY": KEY})
    assert loaded.config.providers["groq"].api_key == KEY
    assert loaded.config.providers["groq"].headers == {"X-Auth": f"Bearer {KEY}"}
    assert loaded.warnings == ()


@pytest.mark.parametrize(("env", "how"), [({}, "is not set"), ({"GROQ_API_KEY": ""}, "is empty")])
def test_a_missing_variable_is_named_with_its_place(env: dict[str, str], how: str) -> None:
    assert problems_of("providers:\n  groq:\n    api_key: ${GROQ_API_KEY}\n", env) == (
        f"gearshift.yaml:3:14: providers.groq.api_key: environment variable GROQ_API_KEY {how}",
    )


def test_variables_are_refused_outside_secrets() -> None:
    text = 'providers: {o: {kind: ollama, base_url: "${HOST}"}}'
    assert "environment variables are for secrets only" in problems_of(text, {"HOST": "http://h"})[0]


def test_shell_defaults_are_refused_in_secrets() -> None:
    assert "only ${NAME} is understood" in problems_of('providers: {groq: {api_key: "${A:-b}"}}')[0]


@pytest.mark.parametrize("key", ["a\nb", "a\r\nX: y", "ключ"])
def test_a_key_that_no_header_can_hold_is_refused(key: str) -> None:
    (problem,) = problems_of('providers: {groq: {api_key: "${A}"}}', {"A": key})
    assert "cannot stand in a header" in problem
    assert key not in problem


def test_an_unquoted_variable_in_a_flow_mapping_is_explained() -> None:
    assert 'write ${NAME} in quotes: "${NAME}"' in problems_of("providers: {groq: {api_key: ${A}}}", {"A": "b"})[0]


def test_a_key_in_the_file_is_a_warning_that_does_not_show_it() -> None:
    loaded = parse_config(
        f"providers:\n  groq:\n    api_key: {KEY}\n    headers: {{Authorization: {KEY}, X-Team: a}}\n", {}
    )
    assert [warning.split(": ")[1] for warning in loaded.warnings] == [
        "providers.groq.api_key",
        "providers.groq.headers.Authorization",
    ]
    assert KEY not in "".join(loaded.warnings)


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{groq: {{api_key: [{KEY}]}}}}",
        f"providers: {{groq: {{api_key: {KEY}, x: 1}}}}",
        f"providers: {{groq: {{api_key: {KEY}: b}}}}",
        f"providers: {{groq: {{headers: {KEY}}}}}",
        f"providers: {{groq: {{api_key: '{KEY}\n\n  b'}}}}",
        f"providers:\n  groq:\n    api_key: \t{KEY}: {KEY}\n",
        f'providers: {{groq: {{api_key: "{KEY}${{X Y}}"}}}}',
    ],
)
def test_no_problem_shows_a_key(text: str) -> None:
    assert KEY not in "\n".join(problems_of(text))


def test_repr_hides_keys_and_headers() -> None:
    text = 'providers: {groq: {api_key: "${A}", headers: {X: "${A}"}, accounts: [{name: a, api_key: "${A}"}]}}'
    loaded = parse_config(text, {"A": KEY})
    assert KEY not in repr(loaded)
    assert KEY not in str(loaded.config)


def test_a_file_is_read_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_bytes("\ufeffgates: {min_confidence: 0.9}".encode())
    assert load_config(path, {}).config.gates.min_confidence == 0.9
    path.write_text("x: 1")
    with pytest.raises(ConfigError, match=r"own\.yaml:1:1: x: unknown field"):
        load_config(str(path), {})


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "none.yaml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path, {})
    path = tmp_path / "a.yaml"
    path.write_bytes(b"# fine\ngates: {}\n# \xff\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:3: is not UTF-8 text"):
        load_config(path, {})
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1024 KiB"):
        load_config(path, {})


def test_positions_name_values_and_keys() -> None:
    loaded = parse_config("chains:\n  c:\n    stages:\n      - {provider: o, model: m}\n", {}, "x.yaml")
    assert isinstance(loaded, LoadedConfig)
    model = loaded.positions["chains", "c", "stages", 0, "model"]
    assert (model.line, model.column) == (4, 30)
    stages = loaded.positions["chains", "c", "stages"]
    assert (stages.line, stages.column) == (3, 5)


_WORDS = st.sampled_from(
    [
        "providers",
        "chains",
        "tasks",
        "a",
        "stages",
        "model",
        "api_key",
        "${A}",
        "&a ",
        "*a",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
    ]
    + ["\n", "  ", "\t", "'", '"', "|", ">", "!!x", "<<", "1e9", "~", "\x07", "é", "#", ",", "?", "---", "%YAML"]
)


@given(st.lists(_WORDS, max_size=40).map("".join) | st.text(max_size=60))
def test_any_text_is_read_or_refused_with_problems(text: str) -> None:
    try:
        loaded = parse_config(text, {"A": KEY})
    except ConfigError as error:
        assert error.problems
        assert KEY not in str(error)
    else:
        assert isinstance(loaded.config, Config)
