"""What a store keeps, for how long, and what goes first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.cache.store import OVERHEAD_BYTES, CacheFilter, CacheItem, MemoryStore


def item(key: str, *, size: int = 100, tenant: str = "acme", task: str = "faq", generation: str = "1") -> CacheItem:
    return CacheItem(
        key=key,
        tenant=tenant,
        task_id=task,
        generation=generation,
        value=b"x" * (size - OVERHEAD_BYTES) if size > OVERHEAD_BYTES else b"x",
        ttl_s=10.0,
    )


def room(entries: int) -> MemoryStore:
    """A store for so many entries of 1000 bytes."""
    return MemoryStore(entries * 1000)


async def keys_in(store: MemoryStore, now: float = 0.0) -> set[str]:
    return {each.key for each in await store.entries(now)}


async def test_what_was_not_used_for_longest_goes_first() -> None:
    store = room(2)
    await store.put([item("a", size=1000), item("b", size=1000)], 0.0)
    assert await store.get(["a"], 1.0) != [None]
    await store.put([item("c", size=1000)], 2.0)
    assert await keys_in(store) == {"a", "c"}
    assert store.counts().evictions == 1


async def test_what_a_changed_configuration_left_behind_goes_before_that() -> None:
    store = room(3)
    await store.put([item("a", size=1000), item("b", size=1000, generation="old"), item("c", size=1000)], 0.0)
    await store.get(["b"], 1.0)
    store.retire({"1"})
    await store.put([item("d", size=1000)], 2.0)
    assert await keys_in(store) == {"a", "c", "d"}


async def test_an_entry_is_gone_after_its_time() -> None:
    store = room(2)
    await store.put([item("a")], 0.0)
    assert await store.get(["a"], 9.9) == [b"x"]
    assert await store.get(["a"], 10.0) == [None]
    assert store.counts().entries == 0
    assert (store.counts().hits, store.counts().misses) == (1, 1)


async def test_what_is_larger_than_the_store_is_not_kept() -> None:
    store = room(1)
    await store.put([item("a", size=1001)], 0.0)
    assert await keys_in(store) == set()
    assert store.counts().bytes == 0


async def test_a_purge_drops_what_all_parts_of_the_filter_choose() -> None:
    store = room(10)
    await store.put([item("a"), item("b", tenant="other"), item("c", task="news")], 0.0)
    await store.put([item("d")], 5.0)
    assert await store.purge(CacheFilter(tenant="acme", task_id="faq", min_age_s=5.0), 5.0) == 1
    assert await keys_in(store) == {"b", "c", "d"}
    assert await store.purge(CacheFilter(key="c"), 5.0) == 1
    assert await store.purge(CacheFilter(), 5.0) == 2


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "get", "purge"]), st.sampled_from("abcdefgh"), st.integers(300, 2500))
    )
)
async def test_it_never_holds_more_than_it_may_and_gives_what_was_put_last(steps: list[tuple[str, str, int]]) -> None:
    store, last = room(3), dict[str, bytes]()
    for now, (step, key, size) in enumerate(steps):
        if step == "put":
            made = item(key, size=size)
            await store.put([made], now / 1000)
            last[key] = made.value
        elif step == "get":
            value = (await store.get([key], now / 1000))[0]
            assert value is None or value == last[key]
        else:
            await store.purge(CacheFilter(key=key), now / 1000)
            assert await store.get([key], now / 1000) == [None]
        held = await store.entries(now / 1000)
        assert store.counts().bytes == sum(each.size for each in held) <= 3000
        assert store.counts().entries == len(held)
