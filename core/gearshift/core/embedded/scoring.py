"""Asking llama.cpp's server how likely each label is.

Rules: everything goes through a `post` function that the caller gives (path, body, then the decoded answer), so this
works over any HTTP layer; errors of `post` pass through. One question is asked at each fork between labels, one after the
other, so that all but the first reuse the prompt that is in the server's cache.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gearshift.core.answer import Usage
from gearshift.core.embedded.labels import LabelTree, best, calibrated, ends_are_needed, mean
from gearshift.core.embedded.prompts import CONTENT_FREE, LabelPrompt
from gearshift.core.embedded.wire import fork_body, prompt_usage, read_fork, read_tokens, tokens_body

Post = Callable[[str, dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Post a JSON body to a path of the server and give the decoded answer."""

_NOTHING = Usage()
_LABEL_END = "\n\n"
"""What follows a label in the prompts' examples."""


_LEAST = 1e-12
"""Below this a probability is taken for this, so that it has a logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """How likely each label is; both distributions sum to 1 and keep the order of the labels.

    Args:
        probabilities: calibrated when `bias` is there, else as the model gave them.
        uncalibrated: as the model gave them.
        bias: what content-free inputs get; None without calibration.
        usage: tokens of all the questions; when the bias was measured in this call, of those too.

    """

    probabilities: Mapping[str, float]
    uncalibrated: Mapping[str, float]
    bias: Mapping[str, float] | None
    usage: Usage

    @property
    def label(self) -> str:
        """The likeliest label."""
        return best(self.probabilities)

    @property
    def logprob(self) -> float:
        """The natural logarithm of the likeliest label's probability."""
        return math.log(max(self.probabilities[self.label], _LEAST))

    @property
    def runner_up(self) -> float | None:
        """The natural logarithm of the second likeliest label's probability; None for a single label."""
        others = sorted(self.probabilities.values())[:-1]
        return math.log(max(others[-1], _LEAST)) if others else None


class LabelScorer:
    """Scores labels with one model, remembering their tokens and the model's biases. Tasks may share it.

    Args:
        remembered: the most prompts whose bias is kept; the one unused for longest goes first.

    """

    def __init__(self, *, remembered: int = 256) -> None:
        self._remembered = remembered
        self._trees: OrderedDict[tuple[str, ...], LabelTree] = OrderedDict()
        self._biases: OrderedDict[tuple[LabelPrompt, tuple[str, ...]], dict[str, float]] = OrderedDict()

    async def score(
        self, post: Post, prompt: LabelPrompt, text: str, labels: Sequence[str], *, calibrate: bool = True
    ) -> LabelScores:
        """Give how likely each label is for a text.

        Args:
            post: how the server is reached in this call.
            prompt: the template; see `prompts.label_prompt`.
            text: on one line.
            labels: at least one, all different.
            calibrate: whether the model's bias is taken out; it is measured once for each template and labels.

        """
        tree = await self._tree(post, tuple(labels))
        bias, usage = (await self._bias(post, prompt, tuple(labels), tree)) if calibrate else (None, _NOTHING)
        raw, used = await _ask(post, prompt.fill(text), tree)
        probabilities = calibrated(raw, bias) if bias is not None else raw
        return LabelScores(probabilities=probabilities, uncalibrated=raw, bias=bias, usage=usage + used)

    async def _bias(
        self, post: Post, prompt: LabelPrompt, labels: tuple[str, ...], tree: LabelTree
    ) -> tuple[dict[str, float], Usage]:
        key = (prompt, labels)
        if (known := self._biases.get(key)) is not None:
            self._biases.move_to_end(key)
            return known, _NOTHING
        usage = _NOTHING
        answers: list[dict[str, float]] = []
        for nothing in CONTENT_FREE:
            answer, used = await _ask(post, prompt.fill(nothing), tree)
            answers.append(answer)
            usage += used
        self._biases[key] = mean(answers)
        if len(self._biases) > self._remembered:
            self._biases.popitem(last=False)
        return self._biases[key], usage

    async def _tree(self, post: Post, labels: tuple[str, ...]) -> LabelTree:
        if (known := self._trees.get(labels)) is not None:
            self._trees.move_to_end(labels)
            return known
        rows = {label: await _tokens(post, f" {label}", begin=False) for label in labels}
        if ends_are_needed(rows):
            end = await _tokens(post, _LABEL_END, begin=False)
            rows = {label: [*tokens, *end] for label, tokens in rows.items()}
        self._trees[labels] = LabelTree(rows)
        if len(self._trees) > self._remembered:
            self._trees.popitem(last=False)
        return self._trees[labels]


async def _ask(post: Post, prompt: str, tree: LabelTree) -> tuple[dict[str, float], Usage]:
    tokens = await _tokens(post, prompt, begin=True)
    usage = _NOTHING
    at_forks: dict[tuple[int, ...], Mapping[int, float]] = {}
    for before, ways in tree.forks.items():
        answer = await post("/completion", fork_body([*tokens, *before], ways))
        at_forks[before] = read_fork(answer)
        usage += prompt_usage(answer)
    return tree.probabilities(at_forks), usage


async def _tokens(post: Post, text: str, *, begin: bool) -> list[int]:
    return read_tokens(await post("/tokenize", tokens_body(text, begin=begin)))
