"""The order of stages with the least expected cost of an accepted answer (design 5.3, `order: adaptive`).

Rules: pure. What is minimised, for a given order of stages 1…n:

    V(i) = c(i) + failed(i) x V(i + 1) + poor(i) x V(next stage of higher capability)

c is what a try costs: money (nothing, where it fails), waiting x `second_usd`, failing x `failure_usd`. Beyond the last
stage stands one more accepted answer of the strongest one, c / accepted, so that leaving stages out is never cheap for
leaving calls unanswered. Tries are taken as independent.

Stages change places only with neighbours of the same declared capability and clearance. One is left out only where a
stage of higher capability stands behind it. Stages before and at one of unknown price stay as written. Of all such
orders the cheapest is taken, the written one on a tie, so that it is never dearer than the written one by these numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

_MOST_ORDERS = 512
"""With more orders than this, single steps that make it cheaper are taken instead of the best of all."""
_LEAST_ACCEPTED = 0.05
"""An answer of the strongest stage costs at most so many tries."""
_SAME = 1e-9


class Prospect(Struct, frozen=True, kw_only=True):
    """One stage, as it is weighed.

    Args:
        cost: expected of a try, money and what else is priced, USD.
        accepted / failed: probabilities; what is left is a poor answer.
        capability: as declared; higher is more.
        place: what must be the same for two neighbours to change places, besides their capability.

    """

    cost: float
    accepted: float
    failed: float
    capability: int
    place: int = 0


class Choice(Struct, frozen=True, kw_only=True):
    """What was chosen.

    Args:
        order: indices of the prospects, in the order in which they are tried.
        cost: expected of an accepted answer, USD.
        written: the same, in the written order with all of them.

    """

    order: tuple[int, ...]
    cost: float
    written: float


class _Shape(Struct, frozen=True):
    """What follows from capabilities and places alone.

    Args:
        optional: the stages that may be left out: those before the last of the strongest that are weaker.
        groups: runs of stages that may change places.
        strongest: the stage of the highest capability, the later one on a tie.
        orders: every order that may be taken, with fewer left out first; empty when there are too many to compare.

    """

    optional: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    strongest: int
    orders: tuple[tuple[int, ...], ...]


def choose(prospects: Sequence[Prospect]) -> Choice:
    """Choose the order with the least expected cost; `prospects` is as written and not empty."""
    written = tuple(range(len(prospects)))
    shape = _shape_of(prospects)
    end = _beyond(prospects[shape.strongest])
    before = _expected(prospects, written, end)
    if shape.orders:
        order, cost = written, before
        for each in shape.orders:
            expected = _expected(prospects, each, end)
            if expected < cost * (1 - _SAME):
                order, cost = each, expected
    else:
        order, cost = _stepwise(shape, written, before, lambda each: _expected(prospects, each, end))
    return Choice(order=order, cost=cost, written=before)


def beside(prospects: Sequence[Prospect], choice: Choice, index: int) -> tuple[float, float] | None:
    """Give what is expected with a stage and without it, everything else as chosen; None where it is never left out."""
    shape = _shape_of(prospects)
    if index not in shape.optional:
        return None
    end = _beyond(prospects[shape.strongest])
    if index in choice.order:
        without = tuple(each for each in choice.order if each != index)
        return choice.cost, _expected(prospects, without, end)
    orders = _with(choice.order, index, shape.groups)
    return min(_expected(prospects, order, end) for order in orders), choice.cost


def _shape_of(prospects: Sequence[Prospect]) -> _Shape:
    return _shape(tuple([(each.capability, each.place) for each in prospects]))


@lru_cache(maxsize=256)
def _shape(stages: tuple[tuple[int, int], ...]) -> _Shape:
    """Give the shape of stages, each a capability and a place."""
    highest = max(capability for capability, _ in stages)
    strongest = max(index for index, (capability, _) in enumerate(stages) if capability == highest)
    optional = tuple(index for index in range(strongest) if stages[index][0] < highest)
    groups = tuple(
        tuple(index for index, _ in group)
        for _, group in itertools.groupby(enumerate(stages), key=lambda numbered: numbered[1])
    )
    count = math.prod(math.factorial(len(group)) for group in groups) * 2 ** len(optional)
    return _Shape(optional, groups, strongest, tuple(_orders(groups, optional)) if count <= _MOST_ORDERS else ())


def _expected(prospects: Sequence[Prospect], order: tuple[int, ...], end: float) -> float:
    behind: list[tuple[int, float]] = []
    """Capability and V of the stages behind, the nearest last."""
    following = end
    for index in reversed(order):
        each = prospects[index]
        escalated = next((value for capability, value in reversed(behind) if capability > each.capability), end)
        poor = max(0.0, 1.0 - each.accepted - each.failed)
        following = each.cost + each.failed * following + poor * escalated
        behind.append((each.capability, following))
    return following


def _beyond(strongest: Prospect) -> float:
    """Give what an accepted answer of the strongest stage costs."""
    return strongest.cost / max(_LEAST_ACCEPTED, strongest.accepted)


def _orders(groups: Sequence[Sequence[int]], optional: Sequence[int]) -> Iterator[tuple[int, ...]]:
    # With fewer left out first: on a tie a stage stays, since another one may fail.
    for left_out in sorted(range(1 << len(optional)), key=int.bit_count):
        gone = {index for bit, index in enumerate(optional) if left_out >> bit & 1}
        for arranged in itertools.product(*(itertools.permutations(group) for group in groups)):
            yield tuple(index for index in itertools.chain.from_iterable(arranged) if index not in gone)


def _stepwise(
    shape: _Shape,
    written: tuple[int, ...],
    before: float,
    cost_of: Callable[[tuple[int, ...]], float],
) -> tuple[tuple[int, ...], float]:
    """Take the step that saves most, until none does: leave a stage out, take it in, or swap two of a group."""
    order, cost, optional, groups = written, before, shape.optional, shape.groups
    for _ in range(4 * len(written)):
        steps = [tuple(each for each in order if each != index) for index in optional if index in order]
        for index in optional:
            if index not in order:
                steps += _with(order, index, groups)
        group_of = {index: number for number, group in enumerate(groups) for index in group}
        steps += [
            (*order[:place], order[place + 1], order[place], *order[place + 2 :])
            for place in range(len(order) - 1)
            if group_of[order[place]] == group_of[order[place + 1]]
        ]
        if not steps:
            break
        step = min(steps, key=cost_of)
        if cost_of(step) >= cost * (1 - _SAME):
            break
        order, cost = step, cost_of(step)
    return order, cost


def _with(order: tuple[int, ...], index: int, groups: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Give the orders that have a stage as well, at each place of its group."""
    group_of = {each: number for number, group in enumerate(groups) for each in group}
    own = group_of[index]
    begin = sum(1 for each in order if group_of[each] < own)
    end = sum(1 for each in order if group_of[each] <= own)
    return [(*order[:place], index, *order[place:]) for place in range(begin, end + 1)]
