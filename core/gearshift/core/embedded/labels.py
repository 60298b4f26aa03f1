"""From the probabilities of tokens to the probabilities of labels.

Rules: arithmetic only, no I/O. A label is a row of tokens. The rows of all labels make a tree; where it forks, the model
is asked how likely each way on is, and these are made to sum to 1. A label's probability is the product along its row,
so that the labels' sum is 1 and a long label is not worse for being long. `calibrated` is contextual calibration (Zhao et
al. 2021, "Calibrate Before Use", https://arxiv.org/abs/2102.09690): divide by what content-free inputs get.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Tokens = tuple[int, ...]
_FLOOR = 1e-9
"""The least that a way on is given, since float32 turns very small probabilities into 0."""


class LabelTree:
    """The forks between labels.

    Args:
        rows: each label's tokens; no row may be empty or the beginning of another one.

    """

    def __init__(self, rows: Mapping[str, Sequence[int]]) -> None:
        self._rows: dict[str, Tokens] = {label: tuple(tokens) for label, tokens in rows.items()}
        ways: dict[Tokens, list[int]] = {}
        for tokens in self._rows.values():
            for position, token in enumerate(tokens):
                known = ways.setdefault(tokens[:position], [])
                if token not in known:
                    known.append(token)
        if len(set(self._rows.values())) < len(self._rows) or any(row in ways for row in self._rows.values()):
            raise ValueError("each label needs tokens that are not the beginning of another label's")
        self.forks: dict[Tokens, tuple[int, ...]] = {
            before: tuple(tokens) for before, tokens in ways.items() if len(tokens) > 1
        }
        """The tokens before each fork, shortest first, and the ways on."""

    def probabilities(self, at_forks: Mapping[Tokens, Mapping[int, float]]) -> dict[str, float]:
        """Give each label's probability from those of the ways on at every fork; ways left out count as unlikely."""
        shares = {fork: _shares(ways, at_forks.get(fork, {})) for fork, ways in self.forks.items()}
        raw: dict[str, float] = {}
        for label, tokens in self._rows.items():
            product = 1.0
            for position, token in enumerate(tokens):
                if (ways := shares.get(tokens[:position])) is not None:
                    product *= ways[token]
            raw[label] = product
        return normalized(raw)


def ends_are_needed(rows: Mapping[str, Sequence[int]]) -> bool:
    """Tell whether a label's tokens begin another's, so that each needs an end mark to be told apart."""
    known = [tuple(tokens) for tokens in rows.values()]
    return any(one != other and other[: len(one)] == one for one in known for other in known)


def calibrated(probabilities: Mapping[str, float], bias: Mapping[str, float]) -> dict[str, float]:
    """Give the probabilities divided by the bias, made to sum to 1."""
    return normalized({label: share / max(bias[label], _FLOOR) for label, share in probabilities.items()})


def mean(several: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Give the average of several distributions over the same labels."""
    return {label: sum(each[label] for each in several) / len(several) for label in several[0]}


def normalized(weights: Mapping[str, float]) -> dict[str, float]:
    """Give the weights made to sum to 1."""
    total = sum(weights.values())
    return {label: weight / total if total else 1 / len(weights) for label, weight in weights.items()}


def best(probabilities: Mapping[str, float]) -> str:
    """Give the likeliest label; the earlier one on a tie."""
    return max(probabilities, key=lambda label: probabilities[label])


def _shares(ways: Sequence[int], given: Mapping[int, float]) -> dict[int, float]:
    floored = {token: max(given.get(token, 0.0), _FLOOR) for token in ways}
    total = sum(floored.values())
    return {token: share / total for token, share in floored.items()}
