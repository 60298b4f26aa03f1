"""The parts of a team of workers that need no process: backoff, bus, sums, merging, watching a file, fixed sections."""

from __future__ import annotations

import os
import random
import socket
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import msgspec
import pytest
from msgspec import structs

from gearshift.core.config.model import Config
from gearshift.core.errors import ConfigError
from gearshift.core.shares import ShareAdmission
from gearshift.server.reloading import reloadable
from gearshift.server.watching import FileWatch, look_at, watch_file
from gearshift.server.workers.backoff import FIRST_S, LONGEST_S, STEADY_S, Backoff
from gearshift.server.workers.figures import Family, Sample, counted, summed
from gearshift.server.workers.link import Link
from gearshift.server.workers.member import Member
from gearshift.server.workers.merging import merged_entries, merged_stages, merged_status
from gearshift.server.workers.messages import Answers, Ask, Asked, Reply, Start, Tell, Told, ToSupervisor, ToWorker
from gearshift.server.workers.switchboard import Heard, Switchboard
from gearshift.v1 import ops_pb2
from tests.support.running_server import from_yaml
from tests.support.served_config import one_openai

BOUND_S = 10.0
NOWHERE = "http://127.0.0.1:9"


def test_first_death_in_service_is_followed_by_a_start_at_once() -> None:
    assert Backoff(random.Random(1)).next_delay(served_s=5) == 0


def test_waits_between_starts_grow_to_a_bound_and_are_drawn_whole() -> None:
    chance = random.Random(7)
    longest = [max(_delays(random.Random(seed), 12)[number] for seed in range(60)) for number in range(12)]
    assert longest[1] <= FIRST_S * 4 and longest[-1] <= LONGEST_S
    assert longest[-1] > LONGEST_S * 0.8
    assert min(_delays(random.Random(seed), 12)[-1] for seed in range(60)) < LONGEST_S * 0.2
    backoff = Backoff(chance)
    for _ in range(9):
        backoff.next_delay(served_s=0)
    assert backoff.next_delay(served_s=STEADY_S) == 0


def _delays(chance: random.Random, deaths: int) -> list[float]:
    backoff = Backoff(chance)
    return [backoff.next_delay(served_s=0) for _ in range(deaths)]


def family(name: str, value: float, kind: str = "counter", **labels: str) -> Family:
    return Family(name, "…", kind, [Sample(name, tuple(labels.items()), value)])


def values(families: list[Family]) -> dict[str, float]:
    return {each.name: each.samples[0].value for each in families}


def test_sums_of_what_processes_measured() -> None:
    one = [family("gearshift_calls", 3), family("gearshift_shared_up", 1, "gauge"), family("in_flight", 2, "gauge")]
    two = [family("gearshift_calls", 4), family("gearshift_shared_up", 0, "gauge"), family("in_flight", 1, "gauge")]
    assert values(summed([one, two])) == {"gearshift_calls": 7, "gearshift_shared_up": 0, "in_flight": 3}
    assert values(counted([*one, family("seconds", 5, "histogram")])) == {"gearshift_calls": 3, "seconds": 5}
    assert values(one)["gearshift_calls"] == 3  # nothing is changed that was given


def test_what_one_store_holds_is_not_counted_once_for_each_worker() -> None:
    parts = [[family("gearshift_cache_bytes", 10, "gauge", cache="response")] for _ in range(3)]
    assert values(summed(parts)) == {"gearshift_cache_bytes": 30}
    assert values(summed(parts, shares_caches=True)) == {"gearshift_cache_bytes": 10}
    prompts = [[family("gearshift_cache_bytes", 10, "gauge", cache="prompt")] for _ in range(3)]
    assert values(summed(prompts, shares_caches=True)) == {"gearshift_cache_bytes": 30}
    left = [[family("gearshift_budget_left_usd", value, "gauge")] for value in (2.0, 1.5)]
    assert values(summed(left)) == {"gearshift_budget_left_usd": 3.5}
    assert values(summed(left, shares_limits=True)) == {"gearshift_budget_left_usd": 1.5}


def test_worst_breaker_and_whole_buckets_of_all_workers_are_shown() -> None:
    def part(breaker: int, level: float, books: str = "local") -> ops_pb2.ListStagesResponse:
        bucket = ops_pb2.BucketStatus(
            unit="tokens", capacity=50, level=level, refill_per_second=1, books=books, waiting=1
        )
        stage = ops_pb2.StageStatus(
            provider="p", account="a", model="m", breaker=ops_pb2.BreakerState.ValueType(breaker)
        )
        stage.attempts, stage.total_ms = 10, 100 * breaker
        stage.buckets.append(bucket)
        return ops_pb2.ListStagesResponse(stages=[stage])

    (stage,) = merged_stages([part(1, 50), part(2, 30)]).stages
    assert stage.breaker == ops_pb2.BREAKER_STATE_OPEN
    assert (stage.attempts, stage.total_ms) == (20, 150)
    (bucket,) = stage.buckets
    assert (bucket.capacity, bucket.level, bucket.refill_per_second, bucket.waiting) == (100, 80, 2, 2)
    (stage,) = merged_stages([part(1, 50, "shared"), part(1, 50, "shared")]).stages
    assert (stage.buckets[0].capacity, stage.buckets[0].level) == (50, 50)


def test_pages_of_cache_entries_cover_all_workers_once() -> None:
    def part(*entries: tuple[str, int]) -> ops_pb2.ListCacheEntriesResponse:
        stats = ops_pb2.CacheStats(cache="prompt", entries=len(entries), hits=sum(hits for _, hits in entries))
        made = [ops_pb2.CacheEntry(cache="prompt", tenant="t", key=key, hits=hits) for key, hits in entries]
        return ops_pb2.ListCacheEntriesResponse(entries=made, stats=[stats])

    parts = [part(("a", 5), ("b", 1)), part(("a", 4), ("c", 7))]
    first = merged_entries(parts, 0, 2, ())
    assert [(each.key, each.hits) for each in first.entries] == [("a", 9), ("c", 7)]
    assert first.next_page_token == "2"
    parts = [part(("a", 5), ("b", 1)), part(("a", 4), ("c", 7))]
    second = merged_entries(parts, 2, 2, ())
    assert [each.key for each in second.entries] == ["b"]
    assert second.next_page_token == ""
    assert (second.stats[0].entries, second.stats[0].hits) == (4, 17)


def test_warning_of_one_worker_names_it() -> None:
    one = ops_pb2.GetStatusResponse(warnings=["everybody's", "mine"], calls_ended=1, config_revision="r")
    two = ops_pb2.GetStatusResponse(warnings=["everybody's"], calls_ended=2, config_revision="r")
    whole = merged_status([(3, one), (0, two)])
    assert list(whole.warnings) == ["everybody's", "worker 3: mine"]
    assert whole.calls_ended == 3


async def pair() -> tuple[Link[ToSupervisor], Link[ToWorker]]:
    above, below = socket.socketpair()
    return await Link.over(above, ToSupervisor), await Link.over(below, ToWorker)  # type: ignore[arg-type]


def start() -> Start:
    return Start(0, 2, 2, b"", {}, b"")


async def test_questions_are_answered_and_who_is_silent_is_named() -> None:
    board = Switchboard()
    links = [await pair() for _ in range(3)]
    for number, (above, _) in enumerate(links):
        board.join(number, above)

    async def answer(number: int) -> None:
        link = links[number][1]
        asked = await link.receive()
        assert isinstance(asked, Asked)
        link.send(Reply(asked.id, f"{number}".encode()))
        reply = await links[number][0].receive()
        assert isinstance(reply, Reply)
        board.reply(number, reply)
        board.reply(number, reply)  # said twice counts once

    heard = Heard([], [])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer, 0)
        tasks.start_soon(answer, 2)
        with anyio.fail_after(BOUND_S):
            heard = await board.ask("anything", b"", within_s=0.2)
    assert [(each.worker, each.body) for each in heard.parts] == [(0, b"0"), (2, b"2")]
    assert heard.missing == [1]
    for link in links:
        link[0].close()
        link[1].close()


async def test_nobody_waits_for_a_worker_that_has_left() -> None:
    board = Switchboard()
    above, below = await pair()
    board.join(0, above)
    async with anyio.create_task_group() as tasks:
        heard: list[object] = []

        async def ask() -> None:
            heard.append(await board.ask("anything", b"", within_s=BOUND_S))

        tasks.start_soon(ask)
        with anyio.fail_after(BOUND_S / 2):
            assert isinstance(await below.receive(), Asked)
            board.leave(0)
            while not heard:
                await anyio.lowlevel.checkpoint()
    above.close()
    below.close()


async def test_member_answers_asks_and_hears_and_knows_when_the_supervisor_has_gone() -> None:
    above, below = await pair()
    member = Member(below, start(), ShareAdmission(0, 2, 2))
    heard: list[tuple[int, bytes]] = []
    member.hears("news", lambda sender, body: heard.append((sender, body)))

    async def echo(body: bytes) -> bytes:
        if body == b"bad":
            raise ValueError("no")
        return body * 2

    member.answers("echo", echo)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(member.run)
        with anyio.fail_after(BOUND_S):
            for number, (body, what) in enumerate([(b"x", "echo"), (b"bad", "echo"), (b"", "unknown")]):
                above.send(Asked(number, what, body))
            replies = [await above.receive() for _ in range(3)]
            by_number = {each.id: each for each in replies if isinstance(each, Reply)}
            assert by_number[0].body == b"xx"
            assert by_number[1].error == "no"
            assert "unknown" in by_number[2].error
            above.send(Told(1, "news", b"!"))

            async def ask() -> None:
                answers = await member.ask("status")
                assert answers.missing == [1]

            tasks.start_soon(ask)
            asked = await above.receive()
            assert isinstance(asked, Ask) and asked.what == "status"
            above.send(Answers(asked.id, [], [1]))
            member.tell("news", b"?")
            assert isinstance(await above.receive(), Tell)
            assert heard == [(1, b"!")]
            above.close()
            await member.ended.wait()
    below.close()


def test_file_counts_as_changed_once_it_has_settled() -> None:
    a, b, c = (1, 1, 1, 1), (1, 2, 1, 1), (1, 2, 9, 9)
    watch = FileWatch(a)
    seen = [a, b, c, c, c, None, c, c, a, a]
    assert [watch.has_changed(each) for each in seen] == [
        False, False, False, True, False, False, False, False, False, True,
    ]  # fmt: skip


async def test_file_that_is_replaced_by_another_name_is_seen(tmp_path: Path) -> None:
    path, other = tmp_path / "c.yaml", tmp_path / "c.yaml.new"
    path.write_text("a")
    seen = anyio.Event()

    async def changed() -> None:
        assert path.read_text() == "b"
        seen.set()

    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await watch_file(path, changed, every_s=0.01)

        tasks.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        other.write_text("b")
        os.replace(other, path)
        with anyio.fail_after(BOUND_S):
            await seen.wait()
        tasks.cancel_scope.cancel()
    assert look_at(tmp_path / "none") is None


def test_fixed_sections_keep_their_values_and_are_told() -> None:
    old = from_yaml(one_openai(NOWHERE))
    new = from_yaml(one_openai(NOWHERE, more="server: {max_calls: 7, workers: 3}\ntasks: {strict: true}"))
    given = reloadable(old, new)
    assert given.config.server == old.config.server
    assert given.config.tasks.strict
    assert given.revision not in (old.revision, new.revision)
    assert any(each.startswith("server: ") and "restart" in each for each in given.warnings)
    assert reloadable(given, new).revision == given.revision
    only_fixed = from_yaml(one_openai(NOWHERE, more="server: {max_calls: 7}"))
    assert reloadable(old, only_fixed).revision == old.revision


def test_embedded_model_cannot_be_added_by_a_reload() -> None:
    old = from_yaml(one_openai(NOWHERE))
    providers = {**old.config.providers, "own": _embedded_config().providers["own"]}
    new = replace(old, config=structs.replace(old.config, providers=providers))
    with pytest.raises(ConfigError, match="providers.own.*restart"):
        reloadable(old, new)


def _embedded_config() -> Config:
    return msgspec.convert({"providers": {"own": {"kind": "embedded"}}}, Config)
