"""What `gearshift replay` is made of: traces, mixes, recorded answers, and the sums of a run."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest
from anyio import fail_after
from msgspec.structs import replace

from gearshift.core.catalogue import Catalogue
from gearshift.core.config.load import parse_config
from gearshift.core.errors import ConfigError
from gearshift.core.sizing.trace import TraceError
from gearshift.server.replay import Call, Ended, Recorded, Run, mixed, read_calls, replay, timed
from gearshift.server.replay.names import Names
from gearshift.server.replay.report import as_text, change, figures, percentile, tabulated
from gearshift.server.replay.results import Paid, paid_of, rightness
from gearshift.server.replay.script import Recordings, made_prompt, with_prompts
from gearshift.server.replay.world import AnyKey, World, checked_run, replayed, world_of
from gearshift.server.simulator import parse_plan
from gearshift.server.simulator.ask import Ask
from gearshift.server.simulator.faults import Form
from gearshift.server.simulator.scripted import Scripted, recorded_answer
from gearshift.server.simulator.tokens import prompt_tokens

_CONFIG = """
providers:
  small: {kind: openai, dialect: compatible, base_url: "http://127.0.0.1:1/v1", api_key: "${KEY}", limits: {concurrency: 3}}
  large: {kind: anthropic, api_key: "${KEY}"}
  vectors: {kind: voyage, api_key: "${KEY}"}
models:
  light: {provider: small, wire_id: l-1, capability: low, prices: {input_usd: 1, output_usd: 1}}
  dear: {provider: large, capability: high, prices: {input_usd: 3, output_usd: 15}}
  space: {provider: vectors, capability: low, dimensions: [8], prices: {input_usd: 1}}
chains:
  reason:
    stages: [{provider: small, model: light}, {provider: large, model: dear, max_retries: 2}]
    policy: {min_confidence: 0.9, escalation_threshold: 0.9}
  embed: {stages: [{provider: vectors, model: space}]}
ledger: {url: "postgresql://somewhere/else"}
server: {port: 50051, workers: 4}
"""


def world(config: str = _CONFIG) -> World:
    return world_of(parse_config(config, AnyKey()), Catalogue.load())


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines))
    return path


# Traces


def test_lines_are_read_in_the_order_of_their_times(tmp_path: Path) -> None:
    late = {"at_s": 12.0, "task": "reason", "prompt": "late", "answers": {"m": {"text": "x", "correct": 0.5}}}
    calls = read_calls(write(tmp_path / "t.jsonl", late, "", {"t_s": 10.5, "in_tok": 50, "out_tok": 7}), "generate")
    assert [(call.at, call.task, call.type) for call in calls] == [
        (0.0, "generate", "generate"),
        (1.5, "reason", "reason"),
    ]
    assert (calls[0].input_tokens, calls[0].output_tokens) == (50, 7)
    assert calls[1].answers["m"].correct == 0.5


def test_packed_lengths_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"t_s,in_tok,out_tok,prefix_blocks\n3.0,6758,500,0 1 2\n4.0,10,1,\n"))
    assert [(each.at, each.task, each.input_tokens) for each in read_calls(path, "mail")] == [
        (0.0, "mail", 6758),
        (1.0, "mail", 10),
    ]


_EXPORTED = "id,started_at,request_id,task_id,task_type,provider,model,outcome,input_tokens,output_tokens,first_token_ms,total_ms,served"


def test_exported_ledger_gives_one_call_for_each_request(tmp_path: Path) -> None:
    rows = (
        "1,2026-11-01T10:00:00.500000Z,a,mail,classify,small,light,poor,120,3,80,90.5,false",
        "2,2026-11-01T10:00:01.000000Z,a,mail,classify,large,dear,accepted,130,4,300,400,true",
        "3,2026-11-01T10:00:03.500000Z,b,sums,reason,large,dear,failed,0,0,,20,false",
    )
    first, second = read_calls(write(tmp_path / "l.csv", _EXPORTED, *rows))
    assert (first.at, first.task, first.type, first.input_tokens, first.output_tokens) == (
        0.0,
        "mail",
        "classify",
        130,
        4,
    )
    assert first.answers["small/light"] == Recorded(
        input_tokens=120, output_tokens=3, first_token_ms=80, latency_ms=90.5
    )
    # What failed is simulated anew: nothing is known of its answer.
    assert (second.at, dict(second.answers), second.output_tokens) == (3.0, {}, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param('{"task": "reason"}', ":1: needs a `prompt`, or `input_tokens`", id="nothing to ask"),
        pytest.param(
            '{"prompt": "x"}\n{"prompt": "y", "expeted": 1}', ":2: Object contains unknown field `expeted`", id="slip"
        ),
        pytest.param('{"prompt": "x", "type": "guess"}', "type must be one of classify", id="no such type"),
        pytest.param('{"prompt": "x", "labels": ["a", "b"], "schema": {}}', "not both", id="labels and a schema"),
        pytest.param('{"prompt": "x", "answers": {"m": {"correct": 2}}}', "<= 1.0", id="more than right"),
        pytest.param("a,b\n1,2\n", "is no trace", id="another table"),
        pytest.param("t_s,in_tok,out_tok\n0,1,1\n1,two,1\n", ":3: ", id="a length that is none"),
        pytest.param(
            f"{_EXPORTED}\n1,2026-11-01T10:00:00Z,a,t,,p,m,accepted,1,1,,1,true\n2,yesterday,b,t,,p,m,accepted,1,1,,1,true",
            ":3: Invalid isoformat string",
            id="an export with a time that is none",
        ),
        pytest.param(
            f"{_EXPORTED}\n1,2026-11-01T10:00:00Z,a,t,,p,m,accepted,1,many,,1,true",
            ":2: ",
            id="an export with a length that is none",
        ),
        pytest.param(
            f"{_EXPORTED}\n1,2026-11-01T10:00:00Z,,t,,p,m,accepted,1,1,,1,true",
            ":2: has no request_id",
            id="no request",
        ),
        pytest.param("", "is no trace", id="nothing"),
    ],
)
def test_wrong_trace_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="t.jsonl") as raised:
        read_calls(write(tmp_path / "t.jsonl", text))
    assert told in str(raised.value)


# Mixes and times


def test_mix_has_the_shares_that_were_asked_and_is_the_same_for_a_seed() -> None:
    calls = [Call(at=n * 1.0, task=task, prompt=f"{task} {n}") for n in range(10) for task in ("a", "b", "c")]
    found = mixed(calls, {"a": 70, "b": 20, "c": 10}, 100, seed=4)
    assert [sum(call.task == task for call in found) for task in "abc"] == [70, 20, 10]
    assert found == mixed(calls, {"a": 70, "b": 20, "c": 10}, 100, seed=4)
    assert [call.at for call in found] == sorted(call.at for call in found)
    # Every call of a task comes before one comes again.
    assert len({call.prompt for call in found if call.task == "a"}) == 10
    with pytest.raises(TraceError, match="has no calls of d; it has a, b, c"):
        mixed(calls, {"d": 1}, 5, seed=1)


def test_times_begin_anew_when_they_are_spent() -> None:
    calls = [Call(at=0.0, task="a", prompt=str(n)) for n in range(5)]
    assert [call.at for call in timed(calls, [5.0, 6.0, 8.0])] == [0.0, 1.0, 3.0, 4.5, 5.5]


# What is served


def test_everything_that_reaches_outside_is_replaced_and_the_rest_stays() -> None:
    found = world()
    urls = {"p0": "http://127.0.0.1:1001", "p1": "http://127.0.0.1:1002", "p2": "http://127.0.0.1:1003"}
    served = replayed(found, "chains", urls, "/tmp/x.db", Catalogue.load())
    assert served.providers["small"].accounts[0].account.base_url == "http://127.0.0.1:1001"
    assert served.providers["small"].accounts[0].limits.concurrency == 3
    assert (served.config.ledger.path, served.config.ledger.url, served.config.server.workers) == ("/tmp/x.db", "", 1)
    assert served.chains["reason"].policy.min_confidence == 0.9


def test_baseline_is_one_stage_that_nothing_is_escalated_from() -> None:
    found = world()
    urls = {short: "http://127.0.0.1:1001" for short in found.names.values()}
    served = replayed(found, checked_run(found, "last@0"), urls, "/tmp/x.db", Catalogue.load())
    (stage,) = served.chains["reason"].stages
    assert (stage.model.id, stage.max_retries, served.chains["reason"].policy.min_confidence) == ("dear", 0, 0.0)
    assert (served.providers["large"].breaker.fault_rate, found.blueprint.providers["large"].breaker.fault_rate) == (
        1.0,
        0.5,
    )
    first = replayed(found, checked_run(found, "small/light"), urls, "/tmp/x.db", Catalogue.load())
    assert first.chains["reason"].stages[0].model.id == "light"
    # A text model gives no vectors.
    assert served.chains["embed"].stages[0].model.id == "space"
    with pytest.raises(ConfigError, match="there are last, first, small/light, large/dear"):
        checked_run(found, "small/dear")


def test_embedded_model_is_replayed_as_one_of_a_llama_cpp_server() -> None:
    stages = "[{provider: own, model: gemma3-270m}, {provider: small, model: light}]"
    config = _CONFIG.replace("providers:", "providers:\n  own: {kind: embedded, cost_per_hour_usd: 0.1}", 1)
    found = world(config.replace("chains:", f"chains:\n  classify: {{stages: {stages}}}", 1))
    stage = found.blueprint.chains["classify"].stages[0]
    assert (stage.provider.kind, stage.provider.dialect, stage.model.id) == ("openai", "llamacpp", "gemma3-270m")
    assert stage.model.self_hosted
    assert found.plan.providers[found.names["own"]].wire == "openai"


def test_plan_of_an_unknown_provider_is_an_error() -> None:
    plan = parse_plan("providers: {nobody: {wire: openai}}")
    with pytest.raises(ConfigError, match="has no provider nobody"):
        world_of(parse_config(_CONFIG, AnyKey()), Catalogue.load(), plan=plan)


# What is answered


def ask(text: str, model: str = "l-1", labels: tuple[str, ...] = ()) -> Ask:
    return Ask(form=Form.UNARY, model=model, texts=(text,), labels=labels)


def test_recorded_answer_is_found_by_the_prompt_and_any_name_of_the_model() -> None:
    names = Names(world().blueprint)
    for name in ("small/light", "small/l-1", "light", "l-1"):
        call = Call(at=0, task="t", prompt="why?", answers={name: Recorded(text="so", correct=False, output_tokens=2)})
        found = Recordings([call], names, {"p0": "small"})("p0", ask("why?"))
        assert found is not None
        assert (found.text, found.right, found.output_tokens) == ("so", False, 2), name
    script = Recordings([], names, {"p0": "small"})
    assert script("p0", ask("what?")) is None
    assert script.strange == 1


def test_latency_is_spread_over_the_tokens() -> None:
    recorded = Recorded(text="a b c d e", first_token_ms=100, latency_ms=500, output_tokens=5)
    call = Call(at=0, task="t", prompt="why?", answers={"light": recorded})
    found = Recordings([call], Names(world().blueprint), {"p0": "small"})("p0", ask("why?"))
    assert found is not None
    assert found.latency is not None
    assert (found.latency.first_token_ms, found.latency.token_ms) == (100, 100)


def test_answer_is_cut_into_the_tokens_that_were_billed() -> None:
    for tokens in (1, 3, 11, 30):
        answer = recorded_answer(Scripted(text="eleven char", output_tokens=tokens), ask("?"))
        assert answer is not None
        assert (len(answer.tokens), answer.text) == (tokens, "eleven char")
    label = recorded_answer(Scripted(text="yes"), ask("?", labels=("yes", "no")))
    assert label is not None
    assert label.text == "yes"


def test_prompts_that_are_made_up_have_their_length_and_differ() -> None:
    first, second = with_prompts([Call(at=0, task="t", input_tokens=500)] * 2)
    assert first.prompt != second.prompt
    assert abs(prompt_tokens(len(first.prompt), 4.0) - 500) <= 1
    assert made_prompt(1, 0)


# What came out


def test_answer_is_right_while_it_is_what_was_recorded() -> None:
    names = Names(world().blueprint)
    call = Call(at=0, task="t", prompt="?", answers={"light": Recorded(text="The answer is (B).\n", correct=True)})
    assert rightness(call, names, "small", "light", "The answer is (B).", whole=True) == 1.0
    assert rightness(call, names, "small", "light", "The answer", whole=False) == 0.0
    assert rightness(call, names, "small", "light", "I cannot say.", whole=True) == 0.0
    assert rightness(call, names, "large", "dear", "The answer is (B).", whole=True) is None
    document = Call(at=0, task="t", prompt="?", expected={"a": 1})
    assert rightness(document, names, "large", "dear", '{ "a": 1.0 }', whole=True) == 1.0
    assert rightness(document, names, "large", "dear", "no JSON", whole=True) == 0.0


def test_unknown_price_of_one_attempt_makes_the_calls_cost_unknown() -> None:
    rows = [
        ("r0-1", "small", "light", "first", "poor", 5),
        ("r0-1", "large", "dear", "escalation", "accepted", None),
        ("r0-2", "small", "light", "first", "failed", 0),
        ("r0-2", "large", "dear", "fallback", "accepted", 7),
    ]
    paid = paid_of(rows)
    assert (paid["r0-1"].pico, paid["r0-1"].escalations) == (None, 1)
    assert (paid["r0-2"].pico, paid["r0-2"].fallbacks, paid["r0-2"].attempts) == (7, 1, 2)


def ended(number: int, *, latency: float = 1.0, pico: int = 100, error: str = "", right: float | None = 1.0) -> Ended:
    return Ended(
        number=number,
        task="a" if number % 2 else "b",
        lag_s=0.0,
        latency_s=latency,
        error=error,
        accepted=not error,
        right=None if error else right,
        paid=Paid(pico=pico, attempts=1),
    )


def test_failed_calls_are_paid_for_and_have_neither_latency_nor_answer() -> None:
    found = figures(
        [ended(1, latency=2.0), ended(2, latency=9.0, error="UNAVAILABLE", pico=50), ended(3, latency=4.0, right=0.0)]
    )
    assert (found.failed, found.accepted, found.mean_s, found.p99_s, found.quality) == (1, 2, 3.0, 4.0, 0.5)
    assert found.cost_usd == Decimal("250e-12")
    assert found.cost_per_accepted_usd == Decimal("125e-12")


def test_unknown_price_is_not_shown_as_zero() -> None:
    unknown = ended(1)
    unknown.paid.pico = None
    table = tabulated([Run(name="chains", ended=[unknown])])
    told = as_text(table)
    assert [line.split()[:4] for line in told.splitlines() if line.startswith("a ")] == [["a", "1", "-", "-"]]
    assert "1 calls have an attempt whose price is unknown" in told


def test_runs_are_compared_over_the_calls_that_ended_in_both() -> None:
    chains = Run(name="chains", ended=[ended(1, pico=10), ended(2, pico=20), ended(3, pico=1000)])
    last = Run(name="last", ended=[ended(1, pico=100), ended(2, pico=200)])
    table = tabulated([chains, last])
    assert table["chains"]["all"].calls == 2
    assert change(table["chains"]["all"], table["last"]["all"]).cost == pytest.approx(-0.9)
    assert "-90.0%" in as_text(table)
    assert list(table["chains"]) == ["a", "b", "all"]


def test_nothing_to_compare_is_no_number() -> None:
    nothing = figures([])
    found = change(nothing, nothing)
    assert (found.cost, found.latency, found.failures, found.quality) == (None, None, None, None)
    assert percentile([], 0.5) is None
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0


_WIRES = {
    "groq": "{kind: openai, dialect: groq, api_key: '${K}'}",
    "deepseek": "{kind: openai, dialect: deepseek, api_key: '${K}'}",
    "vllm": "{kind: openai, dialect: vllm}",
    "llamacpp": "{kind: openai, dialect: llamacpp}",
    "platform": "{kind: openai, dialect: openai, api_key: '${K}'}",
    "local": "{kind: ollama}",
    "claude": "{kind: anthropic, api_key: '${K}'}",
}


async def test_prompt_reaches_every_wire_format_as_it_was_written(tmp_path: Path) -> None:
    lines = ["providers:", *(f"  {name}: {spec}" for name, spec in _WIRES.items())]
    lines += ["models:", *(f"  m-{name}: {{provider: {name}, capability: high}}" for name in _WIRES)]
    lines += ["chains:", *(f"  {name}: {{stages: [{{provider: {name}, model: m-{name}}}]}}" for name in _WIRES)]
    lines += ["tasks:", "  declared:"]
    calls: list[Call] = []
    for name in _WIRES:
        answers = {
            kind: {f"{name}/m-{name}": Recorded(text=text, correct=True, latency_ms=3.0, output_tokens=12)}
            for kind, text in (("classify", "yes"), ("extract", '{"a": 3}'), ("generate", "Gears turn well and long."))
        }
        lines += [f"    {kind}-{name}: {{type: {kind}, complexity: low, chain: {name}}}" for kind in answers]
        schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
        calls += [
            Call(
                at=0,
                task=f"classify-{name}",
                prompt="  spaced \n",
                labels=("yes", "no"),
                answers=answers["classify"],
            ),
            Call(at=0, task=f"extract-{name}", prompt="Take {{x}}\r\nout", schema=schema, answers=answers["extract"]),
            Call(at=0, task=f"generate-{name}", prompt="Write ü.", system="Be brief.", answers=answers["generate"]),
        ]
    # One prompt has one answer: here each is asked of its own provider.
    calls = [replace(call, prompt=f"{call.prompt}{number}\n") for number, call in enumerate(calls)]
    found = world("\n".join(lines))
    with fail_after(15):
        (run,) = await replay(found, calls, ["chains"], tmp_path)
    assert (run.strange, run.recorded) == (0, len(calls))
    assert [(each.task, each.error, each.right) for each in run.ended if each.error or each.right != 1.0] == []
