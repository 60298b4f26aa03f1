"""Static prompts are kept by tenant, task definition and text."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gearshift.core.config.model import CachingConfig
from gearshift.core.promptcache import USE_VARIABLES, PromptCache, prompt_key

_LONG = "You sort mail. " * 50


def cache(max_bytes: int = 64 * 1024 * 1024) -> PromptCache:
    return PromptCache(CachingConfig(max_bytes=max_bytes))


def keep(
    prompts: PromptCache, text: str = _LONG, *, tenant: str = "acme", now: float = 0.0, static: bool = False
) -> str:
    return prompts.keep(tenant, "mail", "hash", text, static=static, now=now)[0]


def test_a_long_prompt_is_kept_and_found() -> None:
    prompts = cache()
    key = keep(prompts)
    assert key == prompt_key("acme", "hash", _LONG)
    assert prompts.get("acme", key, 1.0) == _LONG
    assert keep(prompts) == key
    counts = prompts.counts()
    assert (counts.entries, counts.hits, counts.misses) == (1, 2, 1)
    assert counts.bytes >= len(_LONG)


def test_a_short_prompt_is_not_kept() -> None:
    assert cache().keep("acme", "mail", "hash", "x" * 500, static=True, now=0.0) == ("", "")
    assert keep(cache(), "x" * 501)


def test_an_entry_lives_for_its_time_since_the_last_use() -> None:
    prompts = cache()
    key = keep(prompts)
    assert prompts.get("acme", key, 3599.0) is not None
    assert prompts.get("acme", key, 3599.0 + 3599.0) is not None
    assert prompts.get("acme", key, 3599.0 * 2 + 3600.0) is None
    assert prompts.counts().entries == 0
    assert keep(prompts, now=1e6) == key


def test_the_cache_is_bounded_by_bytes_and_drops_the_least_used() -> None:
    prompts = cache(max_bytes=3000)
    first, second = keep(prompts, "a" * 1000), keep(prompts, "b" * 1000)
    prompts.get("acme", first, 1.0)
    third = keep(prompts, "c" * 1000)
    assert [bool(prompts.get("acme", key, 2.0)) for key in (first, second, third)] == [True, False, True]
    assert prompts.counts().bytes <= 3000
    assert prompts.counts().evictions == 1
    assert keep(prompts, "d" * 4000) == ""


def test_a_key_is_of_no_use_to_another_tenant() -> None:
    prompts = cache()
    key = keep(prompts)
    assert prompts.get("other", key, 0.0) is None
    assert not prompts.delete("other", key)
    assert prompts.delete("acme", key)
    assert not prompts.delete("acme", key)


def test_prompts_that_differ_only_in_values_are_not_kept() -> None:
    prompts = cache()
    answers = [
        prompts.keep(
            "acme",
            "mail",
            "hash",
            f"{_LONG} Customer {number}, {number}@example.org, 2026-01-{number:02}",
            static=False,
            now=0.0,
        )
        for number in range(1, 7)
    ]
    assert [note for _, note in answers] == ["", "", "", USE_VARIABLES, USE_VARIABLES, USE_VARIABLES]
    assert prompts.counts().entries == 0  # those kept before are dropped too


def test_static_overrides() -> None:
    prompts = cache()
    assert all(keep(prompts, f"{_LONG} Version {number}", static=True) for number in range(10))


def test_prompts_that_differ_in_words_are_kept() -> None:
    prompts = cache()
    assert all(keep(prompts, f"{_LONG} Be {word}.") for word in ("brief", "kind", "exact", "slow", "plain"))


def test_values_far_down_do_not_count_as_the_same_prompt() -> None:
    prompts = cache()
    assert all(keep(prompts, "x " * 40_000 + str(number)) for number in range(6))


def test_a_hostile_prompt_is_read_in_linear_time() -> None:
    # Without care, one long word costs its square: hours, where this takes no time.
    keep(cache(), "a" * 2_000_000)
    keep(cache(), "a." * 1_000_000)
    keep(cache(), "a@" * 1_000_000)
    keep(cache(), "a@b" * 30_000)


def test_purging_forgets_what_is_chosen() -> None:
    prompts = cache()
    keep(prompts)
    other = keep(prompts, tenant="other")
    assert prompts.purge(lambda entry: entry.tenant == "acme") == 1
    assert [entry.key for entry in prompts.entries(0.0)] == [other]
    assert prompts.entries(1e6) == []
    assert prompts.counts().bytes == 0


_TENANTS = st.sampled_from(["acme", "other", "third"])


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["keep", "get", "delete", "wait"]), _TENANTS, st.sampled_from("ghijk"), st.integers(0, 40)
        ),
        max_size=50,
    )
)
def test_tenants_never_see_each_others_prompts(steps: list[tuple[str, str, str, int]]) -> None:
    prompts, now = PromptCache(CachingConfig(max_bytes=4000)), 0.0
    keys: list[tuple[str, str, str]] = []
    for what, tenant, letter, which in steps:
        text = letter * 600
        if what == "wait":
            now += which * 60
        elif what == "keep":
            key = keep(prompts, text, tenant=tenant, now=now)
            assert key
            keys.append((tenant, key, text))
        elif keys:
            owner, key, kept = keys[which % len(keys)]
            if what == "get":
                got = prompts.get(tenant, key, now)
                assert got is None or (tenant == owner and got == kept)
            elif prompts.delete(tenant, key):
                assert tenant == owner
        held = sum(entry.size for entry in prompts.entries(now))
        assert prompts.counts().bytes == held <= 4000
