"""Calls, contexts, options, prompts and error details, without a server."""

from __future__ import annotations

import inspect
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

import gearshift.clients
from gearshift.clients import (
    CallOptions,
    Code,
    Context,
    RpcError,
    Violation,
    assistant,
    background,
    call,
    conversation,
    image,
    stream_policy,
    tool,
    tool_result,
    user,
    with_api_key,
    with_channel_options,
    with_default_timeout,
    with_keepalive,
    with_retry,
    with_round_robin,
    with_tls,
)
from gearshift.clients._details import read_details
from gearshift.clients.aio import Client, OpsClient
from gearshift.clients.calls import embed_request, execute_call
from gearshift.clients.options import Option, settings_from
from gearshift.clients.prompt_memory import PromptMemory
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, task_pb2


def test_a_plain_call_says_nothing_that_was_not_said() -> None:
    assert call("t", "hello") == call_pb2.Call(task=task_pb2.Task(id="t"), prompt="hello")


def test_labels_and_examples_become_a_label_output() -> None:
    made = call("t", "x", labels=["a", "b"], examples=[("one", "a")])
    assert made.output.labels == call_pb2.LabelOutput(
        labels=["a", "b"], examples=[call_pb2.LabelExample(text="one", label="a")]
    )


def test_a_schema_and_its_examples_become_json() -> None:
    made = call("t", "x", schema={"type": "object"}, schema_name="mail", examples=[("one", {"a": 1}), ("two", "{}")])
    assert json.loads(made.output.json.schema) == {"type": "object"}
    assert [one.json for one in made.output.json.examples] == ['{"a": 1}', "{}"]


def test_an_empty_schema_takes_any_json() -> None:
    made = call("t", "x", schema={})
    assert made.output.WhichOneof("kind") == "json" and made.output.json.schema == ""


def test_parameters_and_policy_are_set_only_as_said() -> None:
    made = call("t", "x", temperature=0.0, max_cost_usd=Decimal("1E-4"), require_valid=True, reasoning_effort="low")
    assert made.parameters.HasField("temperature") and not made.parameters.HasField("seed")
    assert made.parameters.reasoning_effort == call_pb2.REASONING_EFFORT_LOW
    assert (made.policy.max_cost_usd, made.policy.require_valid) == ("0.0001", True)
    assert not made.policy.HasField("max_hops")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"labels": ["a"], "schema": {}}, "exclude", id="labels and schema"),
        pytest.param({"system": "a", "system_key": "b"}, "exclude", id="two systems"),
        pytest.param({"examples": [("a", "b")]}, "labels or a schema", id="examples of nothing"),
        pytest.param({"complexity": "huge"}, "low, medium, high", id="unknown word"),
        pytest.param({"task_type": "unspecified_"}, "classify, extract", id="unknown type"),
    ],
)
def test_what_cannot_be_sent_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call("t", "x", **options)


def test_one_text_is_no_list_of_texts() -> None:
    with pytest.raises(TypeError):
        call("t", "x", labels="abc")
    with pytest.raises(TypeError):
        embed_request("t", "abc")


def test_every_method_of_the_contract_has_one_here() -> None:
    for owner, file, service in ((Client, router_pb2, "RouterService"), (OpsClient, ops_pb2, "OpsService")):
        for method in file.DESCRIPTOR.services_by_name[service].methods:
            name = re.sub(r"(?<!^)([A-Z])", r"_\1", method.name).lower()
            assert list(inspect.signature(getattr(owner, name)).parameters)[:2] == ["self", "ctx"], name


def test_the_context_of_execute_has_every_argument_of_call() -> None:
    assert set(CallOptions.__annotations__) == set(inspect.signature(call).parameters) - {"prompt"}


def test_an_unknown_name_in_the_context_is_refused_with_the_nearest() -> None:
    context: Any = {"lables": ["a"]}
    with pytest.raises(ValueError, match="did you mean 'labels'"):
        execute_call("classify", "x", context)


def test_execute_does_not_embed() -> None:
    with pytest.raises(ValueError, match=r"use embed\(\)"):
        execute_call("embed", "x", None)


def test_a_conversation_is_built_of_turns() -> None:
    answer = answer_pb2.Answer(text="calling", tool_calls=[call_pb2.ToolCall(id="c1", name="time", arguments="{}")])
    answer.completion.provider_state.provider = "anthropic"
    turns = [*conversation("hi", "hello"), user("see", image(b"x", "image/png")), assistant(answer)]
    turns.append(tool_result("c1", "noon"))
    assert [turn.role for turn in turns] == [1, 2, 1, 2, 3]
    assert turns[2].parts[1].image.media_type == "image/png"
    assert turns[3].provider_state.provider == "anthropic"
    assert tool("time", parameters={"type": "object"}).parameters_schema == '{"type": "object"}'
    assert call("t", messages=turns).messages[4].parts[0].tool_result.content == "noon"


def test_a_named_tool_is_chosen_by_its_name() -> None:
    assert call("t", "x", tool_choice="required").tool_choice.mode == call_pb2.TOOL_MODE_REQUIRED
    assert call("t", "x", tool_choice="time").tool_choice.name == "time"


def test_hold_back_of_nothing_is_not_unset() -> None:
    assert stream_policy(hold_back_tokens=0).HasField("hold_back_tokens")
    assert not stream_policy(mode="fail").HasField("hold_back_tokens")


def test_a_derived_context_never_outlives_its_parent() -> None:
    parent = background().with_timeout(1)
    assert parent.with_timeout(100).deadline == parent.deadline
    shorter = parent.with_timeout(0.5).remaining()
    assert shorter is not None and shorter <= 0.5
    assert background().remaining() is None


def test_a_derived_context_is_cancelled_with_its_parent_but_not_the_other_way() -> None:
    parent, cancel_parent = background().with_cancel()
    child, cancel_child = parent.with_cancel()
    heard: list[str] = []
    parent.on_cancel(lambda: heard.append("parent"))
    child.on_cancel(lambda: heard.append("child"))
    undo = child.on_cancel(lambda: heard.append("undone"))
    undo()
    cancel_child()
    assert child.is_cancelled and not parent.is_cancelled and heard == ["child"]
    cancel_parent()
    cancel_parent()
    assert heard == ["child", "parent"]
    parent.with_timeout(5).on_cancel(lambda: heard.append("late"))
    assert heard == ["child", "parent", "late"]
    with pytest.raises(RpcError) as caught:
        child.check()
    assert caught.value.code is Code.CANCELLED


def test_a_cancelled_parent_cancels_grandchildren_that_nobody_kept() -> None:
    parent, cancel = background().with_cancel()
    heard: list[str] = []
    parent.with_timeout(5).with_cancel()[0].with_metadata({"a": "b"}).on_cancel(lambda: heard.append("it"))
    cancel()
    assert heard == ["it"]


def test_a_context_is_frozen_and_keeps_metadata_in_order() -> None:
    ctx = background().with_metadata({"b": "1"}).with_metadata({"a": "2", "b": "3"})
    assert ctx.metadata == (("b", "1"), ("a", "2"), ("b", "3"))
    assert background() == Context()
    with pytest.raises(AttributeError):
        ctx.deadline = 3.0  # type: ignore[misc]


@pytest.mark.parametrize("key", ["Upper", "grpc-timeout", "with space", "data-bin", ""])
def test_keys_that_grpc_would_refuse_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="metadata key"):
        background().with_metadata({key: "x"})


def test_options_add_up_and_later_ones_win() -> None:
    settings = settings_from(
        "localhost:1",
        (
            with_default_timeout(1),
            with_default_timeout(7),
            with_round_robin(),
            with_retry(attempts=4),
            with_keepalive(),
            with_channel_options(("grpc.http2.bdp_probe", 1)),
        ),
    )
    arguments = dict(settings.channel_arguments())
    service = json.loads(arguments["grpc.service_config"])
    assert settings.default_timeout == 7
    assert service["loadBalancingConfig"] == [{"round_robin": {}}]
    assert service["methodConfig"][0]["retryPolicy"]["maxAttempts"] == 4
    assert arguments["grpc.http2.bdp_probe"] == 1
    assert arguments["grpc.keepalive_time_ms"] == 60_000


def test_a_channel_has_no_probe_and_room_both_ways() -> None:
    arguments = dict(settings_from("localhost:1", ()).channel_arguments())
    assert arguments["grpc.http2.bdp_probe"] == 0
    assert arguments["grpc.max_receive_message_length"] == arguments["grpc.max_send_message_length"] == 64 << 20


@pytest.mark.parametrize(
    "target",
    ["localhost:1", "127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "unix:/tmp/x", "dns:///localhost:1", "ipv4:127.0.0.1:1"],
)
def test_a_key_may_stay_on_this_machine_without_tls(target: str) -> None:
    assert settings_from(target, (with_api_key("k"),)).metadata() == (("authorization", "Bearer k"),)


@pytest.mark.parametrize(
    "target",
    [
        "example.org:1",
        "localhost.example.org:1",
        "127.0.0.1.example.org:1",
        "10.0.0.1:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
    ],
)
def test_a_key_does_not_cross_a_network_in_the_clear(target: str) -> None:
    with pytest.raises(ValueError, match="in the clear"):
        settings_from(target, (with_api_key("k"),))
    assert settings_from(target, (with_api_key("k"), with_tls(ca=b"pem"))).api_key == "k"
    assert settings_from(target, (with_api_key("k", plaintext=True),)).api_key == "k"


def test_a_key_is_never_printed() -> None:
    assert "secret" not in repr(
        settings_from("localhost:1", (with_api_key("secret"), with_tls(key=b"secret", certificate=b"")))
    )


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: with_retry(attempts=6), id="too many attempts"),
        pytest.param(lambda: with_retry(initial_backoff=9, max_backoff=1), id="backoff"),
        pytest.param(lambda: with_default_timeout(0), id="no time"),
        pytest.param(lambda: with_keepalive(interval=1), id="asks too often"),
        pytest.param(lambda: with_tls(key=b"x"), id="half a certificate"),
        pytest.param(lambda: with_api_key("two words"), id="key with a space"),
        pytest.param(lambda: settings_from("", ()), id="no target"),
    ],
)
def test_options_that_cannot_work_are_refused(make: Any) -> None:
    with pytest.raises(ValueError):
        make()


def test_tls_reads_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"roots")
    option: Option = with_tls(ca=tmp_path / "ca.pem", server_name="router")
    settings = settings_from("example.org:1", (option,))
    assert settings.tls is not None and settings.tls.ca == b"roots"
    assert dict(settings.channel_arguments())["grpc.ssl_target_name_override"] == "router"


def test_the_prompt_memory_is_bounded_and_keeps_no_text() -> None:
    memory = PromptMemory(capacity=2)
    texts = [str(index) * 600 for index in range(3)]
    memory.remember("t", texts[0], "k0")
    memory.remember("t", texts[1], "k1")
    assert memory.shorten(call("t", "x", system=texts[0]))  # used last
    memory.remember("t", texts[2], "k2")
    assert len(memory) == 2
    assert not memory.shorten(call("t", "x", system=texts[1]))
    assert memory.shorten(call("t", "x", system=texts[0]))
    assert texts[0] not in repr(vars(memory))


def test_prompts_of_500_characters_are_sent_whole() -> None:
    memory = PromptMemory()
    memory.remember("t", "x" * 500, "k")
    memory.remember("t", "x" * 501, "")
    assert len(memory) == 0


def test_details_are_read_as_the_generated_messages_wrote_them() -> None:
    status = status_pb2.Status(code=8, message="m")
    for detail in (
        error_details_pb2.ErrorInfo(reason="R", domain="gearshift", metadata={"a": "1", "b": "2"}),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=3, nanos=500_000_000)),
        error_details_pb2.BadRequest(
            field_violations=[error_details_pb2.BadRequest.FieldViolation(field="f", description="d")]
        ),
        error_details_pb2.QuotaFailure(
            violations=[error_details_pb2.QuotaFailure.Violation(subject="s", description="d")]
        ),
        error_details_pb2.Help(),
    ):
        wrapped = any_pb2.Any()
        wrapped.Pack(detail)
        status.details.append(wrapped)
    read = read_details(status.SerializeToString())
    assert (read.reason, read.domain, read.info) == ("R", "gearshift", {"a": "1", "b": "2"})
    assert read.retry_after == 3.5
    assert read.violations == (Violation("f", "d"),)
    assert [one.subject for one in read.quota] == ["s"]
    assert [one.type_name for one in read.details][-1] == "google.rpc.Help"


def test_details_that_cannot_be_read_are_left_out() -> None:
    assert read_details(b"\xff\xff").reason == ""
    status = status_pb2.Status(details=[any_pb2.Any(type_url="x/google.rpc.ErrorInfo", value=b"\xff")])
    assert read_details(status.SerializeToString()).reason == ""


def test_codes_are_those_of_grpc() -> None:
    import grpc

    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


def test_every_public_name_is_there() -> None:
    assert all(getattr(gearshift.clients, name) is not None for name in gearshift.clients.__all__)
    assert set(gearshift.clients.__all__) <= set(dir(gearshift.clients))
    with pytest.raises(AttributeError):
        gearshift.clients.nothing  # noqa: B018
