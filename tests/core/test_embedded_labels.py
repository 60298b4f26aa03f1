from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gearshift.core.embedded.labels import LabelTree, best, calibrated, ends_are_needed, mean

DISTRIBUTIONS = st.lists(st.floats(min_value=1e-6, max_value=1.0), min_size=2, max_size=6)


def test_labels_that_part_at_once_need_one_fork() -> None:
    tree = LabelTree({"a": [1], "b": [2], "c": [3]})
    assert tree.forks == {(): (1, 2, 3)}
    assert tree.probabilities({(): {1: 0.2, 2: 0.5, 3: 0.3}}) == pytest.approx({"a": 0.2, "b": 0.5, "c": 0.3})


def test_a_long_label_is_asked_about_only_where_another_label_parts_from_it() -> None:
    tree = LabelTree({"not urgent at all": [1, 2, 3, 4], "not now": [1, 5], "urgent": [2]})
    assert set(tree.forks) == {(), (1,)}
    found = tree.probabilities({(): {1: 0.6, 2: 0.4}, (1,): {2: 0.25, 5: 0.75}})
    assert found == pytest.approx({"not urgent at all": 0.15, "not now": 0.45, "urgent": 0.4})


def test_one_label_needs_no_question() -> None:
    tree = LabelTree({"only": [7, 8]})
    assert tree.forks == {}
    assert tree.probabilities({}) == {"only": 1.0}


def test_a_label_that_begins_another_needs_an_end() -> None:
    assert ends_are_needed({"good": [1], "good service": [1, 2]})
    assert not ends_are_needed({"good": [1], "bad": [2]})
    with pytest.raises(ValueError, match="beginning of another"):
        LabelTree({"good": [1], "good service": [1, 2]})


def test_labels_with_the_same_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="beginning of another"):
        LabelTree({"a": [1], "a ": [1]})


def test_a_way_that_the_model_finds_impossible_is_kept_above_zero() -> None:
    found = LabelTree({"a": [1], "b": [2]}).probabilities({(): {1: 1.0, 2: 0.0}})
    assert 0 < found["b"] < 1e-6
    assert LabelTree({"a": [1], "b": [2]}).probabilities({}) == {"a": 0.5, "b": 0.5}


def test_calibration_takes_out_a_bias_to_one_label() -> None:
    bias = {"positive": 0.9, "negative": 0.1}
    assert best({"positive": 0.7, "negative": 0.3}) == "positive"
    assert best(calibrated({"positive": 0.7, "negative": 0.3}, bias)) == "negative"
    assert calibrated(bias, bias) == pytest.approx({"positive": 0.5, "negative": 0.5})


def test_the_bias_is_the_mean_of_the_answers_to_content_free_inputs() -> None:
    assert mean([{"a": 0.2, "b": 0.8}, {"a": 0.6, "b": 0.4}]) == pytest.approx({"a": 0.4, "b": 0.6})


def test_the_earlier_label_wins_a_tie() -> None:
    assert best({"x": 0.5, "y": 0.5}) == "x"


@given(DISTRIBUTIONS, DISTRIBUTIONS)
def test_calibrated_probabilities_sum_to_one(one: list[float], other: list[float]) -> None:
    names = [f"label {number}" for number in range(min(len(one), len(other)))]
    found = calibrated(dict(zip(names, one, strict=False)), dict(zip(names, other, strict=False)))
    assert sum(found.values()) == pytest.approx(1.0)
    assert list(found) == names


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=8, unique_by=tuple))
def test_probabilities_of_any_tree_sum_to_one(rows: list[list[int]]) -> None:
    named = {str(number): [*row, 9] for number, row in enumerate(rows)}  # 9 ends each row
    tree = LabelTree(named)
    at_forks = {fork: {token: (token + 1) / 10 for token in ways} for fork, ways in tree.forks.items()}
    assert sum(tree.probabilities(at_forks).values()) == pytest.approx(1.0)
