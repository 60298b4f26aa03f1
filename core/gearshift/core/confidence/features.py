"""What an answer, and what was asked, show of whether the answer is right.

Rules: pure; at most `PROMPT_READ` and `ANSWER_READ` characters are read (the end of both, where question and result stand, and the
answer's beginning), so that the time is bounded. The order of `NAMES` is part of the weights' format: what is added goes
to the end, and the weights are trained anew.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

PROMPT_READ: Final = 3_000
ANSWER_READ: Final = 4_000
_HEAD: Final = 1_000

_DIGIT = re.compile(r"\d")
_UPPER = re.compile(r"[A-Z]")
_WORD = re.compile(r"[a-z]{2,}")
_NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?")
_SENTENCE_END = re.compile(r"[.!?](?:\s|$)")
_OPTION = re.compile(r"^[ \t]*\(?([A-J])[.):][ \t]*(.+)$", re.MULTILINE)
_CHOICE = re.compile(
    r"(?:answer|option|choice)\b[^A-Za-z(]{0,4}(?:is\b|:)?[^A-Za-z(]{0,6}\(?([A-J])\b|\\boxed\{\(?([A-J])\b"
)
_RESULT = re.compile(r"(?:####|\ba:|answer\b[^\n]{0,24}?(?:is|:|=)|\\boxed\{)[^\d\n-]{0,8}(-?\d[\d,]*(?:\.\d+)?)")
_EQUATION = re.compile(
    r"(?<![\w.,)^])(\d[\d,]*(?:\.\d+)?%?) ?([-+*/x×÷]) ?\$?(\d[\d,]*(?:\.\d+)?) ?= ?[<$]{0,3}[\d.*/+= -]*?(\d[\d,]*(?:\.\d+)?)(?![\w.]?\d|[*/])"
)
_SUM = re.compile(r"<<([\d.+*/() -]{3,60})=(-?\d[\d.]*)>>")
_CITED_OPTION = re.compile(r"\(([A-J])\)")

_HEDGES = frozenset(
    [
        "might",
        "perhaps",
        "maybe",
        "possibly",
        "probably",
        "likely",
        "approximately",
        "approx",
        "about",
        "roughly",
        "seem",
        "seems",
        "appear",
        "appears",
        "assume",
        "assumes",
        "assumed",
        "assuming",
        "assumption",
        "unclear",
        "unsure",
        "however",
        "although",
        "suggest",
        "suggests",
        "generally",
        "typically",
        "could",
        "think",
        "believe",
    ]
)
_TROUBLE = frozenset(
    [
        "closest",
        "reexamine",
        "reevaluate",
        "recalculate",
        "reconsider",
        "recheck",
        "mistake",
        "error",
        "typo",
        "incorrect",
        "wrong",
        "insufficient",
        "wait",
        "actually",
        "must",
        "best",
    ]
)
_TROUBLE_PHRASES = (
    "none of", "not listed", "not among", "not given", "not provided", "not match", "n't match", "re-e", "re-c", "cannot be determined",
    "not enough", "more information", "let's try", "there seems", "there appears", "most likely", "but this is", "but that is",
)  # fmt: skip
_SURE = frozenset(["therefore", "thus", "hence", "clearly", "definitely", "so", "must", "always", "since", "because"])
_STEPS = frozenset(["first", "next", "then", "finally", "step"])
_MARKED = re.compile(r"\n[ \t]*(?:\d+[.)]|[-*•])")
_NEGATED = frozenset(
    ["not", "except", "least", "false", "incorrect", "never", "doesn", "don", "isn", "aren", "didn", "wasn", "cannot"]
)
_COMPUTED = frozenset(
    [
        "calculate",
        "compute",
        "determine",
        "find",
        "many",
        "much",
        "long",
        "far",
        "fast",
        "evaluate",
        "estimate",
        "solve",
    ]
)
_RATIO = frozenset(
    [
        "percent",
        "half",
        "twice",
        "third",
        "quarter",
        "times",
        "ratio",
        "each",
        "every",
        "per",
        "average",
        "remain",
        "remaining",
        "remains",
        "left",
    ]
)
_REASONED = re.compile(r"step by step|reason|explain")

NAMES: Final = (
    "prompt_length", "prompt_sentences", "prompt_numbers", "prompt_digits", "prompt_formula", "prompt_negated",
    "prompt_computed", "prompt_ratios", "prompt_blank", "prompt_question_marks", "prompt_word_length", "prompt_statements",
    "prompt_upper", "prompt_quotes", "options", "options_length", "options_numeric", "options_spread", "options_alike",
    "length", "lines", "sentences", "sentence_length", "word_length", "digits", "formula", "upper",
    "hedges", "troubles", "sures", "steps", "negated", "unique_words", "length_to_prompt",
    "equations", "equations_wrong", "numbers", "numbers_new", "prompt_numbers_used", "prompt_numbers_unused",
    "numbers_largest", "fractions", "number_chain",
    "ends_well", "has_result", "result_last", "result_position", "results_stated", "result_whole", "result_size",
    "result_negative", "result_in_prompt", "result_computed",
    "has_choice", "choice_place", "choices_stated", "choice_overlap", "choice_overlap_rank", "choice_cited", "options_cited",
    "choice_value_near", "choice_value_exact", "choice_length_rank", "choice_value_rank",
    "bare", "bare_computed", "overlap", "overlap_new", "repeats",
    "result_to_largest", "result_to_least", "sums", "sums_wrong", "sums_unused", "sums_reused", "sums_per_number",
    "sums_fractions", "sums_last_is_result", "sums_of_prompt", "cut_off", "choice_last_value_gap", "choice_others_nearer", "thought",
)  # fmt: skip


def evidence(prompt: str, answer: str) -> tuple[float, ...]:
    """Give one value for each of `NAMES`.

    Args:
        prompt: all that was asked as one text, oldest first.
        answer: the final text.

    """
    asked = prompt[-PROMPT_READ:]
    text = answer if len(answer) <= ANSWER_READ else answer[:_HEAD] + "\n" + answer[_HEAD - ANSWER_READ :]
    asked_lower, lower = asked.lower(), text.lower()
    asked_list, word_list = _WORD.findall(asked_lower), _WORD.findall(lower)
    asked_words, words = frozenset(asked_list), frozenset(word_list)
    asked_counts, counts = Counter(asked_list), Counter(word_list)
    asked_numbers, numbers = _numbers(asked), _numbers(text)
    asked_set = frozenset(asked_numbers)
    number_set = frozenset(numbers)
    options = _options(asked)
    stripped = text.rstrip()
    size, asked_size = len(text) + 1, len(asked) + 1

    equations = list(_EQUATION.finditer(text))
    checked, wrong = _equations(equations)
    often = Counter(numbers)
    results = [(match.start(), _value(match[1])) for match in _RESULT.finditer(lower)]
    choices = [(match.start(), match[1] or match[2]) for match in _CHOICE.finditer(text)]
    result = results[-1][1] if results else None
    if result is None and numbers and not options:
        result = numbers[-1]
    place = results[-1][0] if results else choices[-1][0] if choices else -1
    sentences = len(_SENTENCE_END.findall(text)) + 1
    new = [each for each in number_set if each not in asked_set]
    used = sum(1 for each in asked_set if each in number_set)
    chosen = choices[-1][1] if choices else ""
    bare = len(text) < 60
    computed = _count(asked_counts, _COMPUTED, asked_words) + asked_lower.count("what is the")
    return (
        math.log(asked_size), len(_SENTENCE_END.findall(asked)), math.log1p(len(asked_numbers)),
        _share(asked, _DIGIT), sum(map(asked.count, "$\\^{=")) / asked_size * 100, _count(asked_counts, _NEGATED, asked_words),
        computed, _count(asked_counts, _RATIO, asked_words) + asked.count("%"), float("__" in asked), asked.count("?"), _mean_length(asked_list),
        float("tatement" in asked), _share(asked, _UPPER), float('"' in asked or "“" in asked),
        *_options_shape(options),
        math.log(size), math.log1p(text.count("\n")), math.log(sentences), math.log(size / sentences),
        _mean_length(word_list), _share(text, _DIGIT), sum(map(text.count, "$\\^{=")) / size * 100,
        _share(text, _UPPER),
        _count(counts, _HEDGES, words), _count(counts, _TROUBLE, words) + sum(map(lower.count, _TROUBLE_PHRASES)), _count(counts, _SURE, words), math.log1p(_count(counts, _STEPS, words) + len(_MARKED.findall(text))),
        _count(counts, _NEGATED, words), len(words) / (len(word_list) + 1), math.log(size / asked_size),
        math.log1p(checked), float(wrong), math.log1p(len(numbers)), len(new) / (len(number_set) + 1),
        used / (len(asked_set) + 1), float(len(asked_set) - used),
        math.log1p(max(numbers, default=0.0)), float(sum(1 for each in numbers if each != int(each))),
        math.log1p(sum(1 for each in new if often[each] > 1)),
        float(stripped[-1:] in {".", "!", "?", ")", "}", "*"} or (bool(results) and stripped[-1:].isdigit())),
        float(bool(results)), float(result is not None and bool(numbers) and abs(result) == numbers[-1]),
        place / size, float(len({each for _, each in results})), float(result is not None and result == int(result)),
        math.log1p(abs(result)) if result is not None else -1.0, float(result is not None and result < 0),
        float(result is not None and result in asked_set), float(result is not None and often[abs(result)] > 1),
        *_choice(options, choices, chosen, text, words, numbers),
        float(bare), float(bare and (computed > 0 or len(asked_numbers) > 4)),
        len(words & asked_words) / (len(words) + 1), math.log1p(len(words - asked_words)), _repeats(text),
        _ratio(result, max(asked_numbers, default=0.0)), _ratio(result, min(asked_numbers, default=0.0)),
        *_sums(text, equations, result, asked_set), float(stripped[-1:].isalnum() and not results and not choices),
        *_gaps(options, chosen, numbers), float(bool(_REASONED.search(lower[:120]))),
    )  # fmt: skip


def _numbers(text: str) -> list[float]:
    return [_value(each) if len(each) > 6 or "," in each else float(each) for each in _NUMBER.findall(text)]


def _value(digits: str) -> float:
    try:
        return min(1e15, max(-1e15, float(digits.replace(",", "").rstrip("."))))
    except ValueError:
        return 0.0


def _count(counts: Counter[str], chosen: frozenset[str], there: frozenset[str]) -> int:
    return sum([counts[word] for word in chosen & there])


def _share(text: str, kind: re.Pattern[str]) -> float:
    return len(kind.findall(text)) / len(text) if text else 0.0


def _mean_length(words: list[str]) -> float:
    return sum(map(len, words)) / len(words) if words else 0.0


def _options(asked: str) -> dict[str, str]:
    """Give the lettered choices at the end of what was asked; A first, else none."""
    found: dict[str, str] = {}
    for match in _OPTION.finditer(asked):
        if match[1] == "A":
            found = {}
        found[match[1]] = match[2].strip()
    return found if "A" in found and len(found) > 1 else {}


def _first_number(text: str) -> float | None:
    match = _NUMBER.search(text)
    return _value(match[0]) if match else None


def _options_shape(options: dict[str, str]) -> Iterable[float]:
    if not options:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    texts = list(options.values())
    lengths = [len(each) for each in texts]
    mean = sum(lengths) / len(lengths)
    starts = len({each[:6] for each in texts})
    numeric = sum(1 for each in texts if _NUMBER.search(each))
    return (
        float(len(options)),
        math.log1p(mean),
        numeric / len(texts),
        (max(lengths) - min(lengths)) / (mean + 1),
        1 - starts / len(texts),
    )


def _choice(
    options: dict[str, str],
    choices: list[tuple[int, str]],
    chosen: str,
    text: str,
    words: frozenset[str],
    numbers: list[float],
) -> Iterable[float]:
    cited = set(_CITED_OPTION.findall(text))
    stated = len({letter for _, letter in choices})
    if chosen not in options:
        return float(bool(chosen)), -1.0, float(stated), 0.0, -1.0, 0.0, float(len(cited)), 0.0, 0.0, -1.0, -1.0
    overlaps: dict[str, float] = {}
    for letter, option in options.items():
        parts = set(_WORD.findall(option.lower()))
        overlaps[letter] = len(parts & words) / len(parts) if parts else 0.0
    own = overlaps[chosen]
    rank = sum(1 for each in overlaps.values() if each > own)
    option_values = {
        letter: value for letter, option in options.items() if (value := _first_number(option)) is not None
    }
    near, exact, value_rank = 0.0, 0.0, -1.0
    value = option_values.get(chosen)
    if value is not None:
        before = numbers[:-1] if numbers else []
        exact = float(value in numbers)
        near = max((1.0 - min(1.0, abs(value - each) / (abs(value) + 1e-9)) for each in before[-12:]), default=0.0)
        value_rank = sum(1 for each in option_values.values() if each < value) / len(option_values)
    length_rank = sum(1 for each in options.values() if len(each) < len(options[chosen])) / len(options)
    return (
        1.0,
        float("ABCDEFGHIJ".index(chosen)),
        float(stated),
        own,
        float(rank),
        float(options[chosen][:40].lower() in text.lower()),
        float(len(cited)),
        near,
        exact,
        length_rank,
        value_rank,
    )


def _ratio(result: float | None, other: float) -> float:
    if not result or not other:
        return 0.0
    return max(-8.0, min(8.0, math.log(abs(result)) - math.log(abs(other))))


def _sums(text: str, equations: list[re.Match[str]], result: float | None, asked: frozenset[float]) -> Iterable[float]:
    """Say how the worked sums hang together: those in marks, else plain ones."""
    sums: list[tuple[str, float]] = (
        [(match[1], _value(match[2])) for match in _SUM.finditer(text)] if "<<" in text else []
    )
    if not sums:
        sums = [(match[0].rpartition("=")[0], _value(match[4])) for match in equations]
    if not sums:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0
    operands = [_numbers(each) for each, _ in sums]
    found = [value for _, value in sums]
    wrong = 0
    for (expression, value), parts in zip(sums, operands, strict=True):
        if len(parts) == 2 and (told := _computed(expression, parts)) is not None:
            wrong += abs(abs(told) - abs(value)) > 0.02 * max(1.0, abs(told))
    later = [value for parts in operands[1:] for value in parts]
    unused = sum(1 for value in found[:-1] if value not in later)
    reused = sum(1 for value in found[:-1] if value in later)
    given = [value for parts in operands for value in parts]
    return (
        math.log1p(len(sums)),
        float(wrong),
        float(unused),
        float(reused),
        len(sums) / (len(asked) + 1),
        float(sum(1 for each in found if each != int(each))),
        float(result is not None and result == found[-1]),
        sum(1 for each in given if each in asked) / (len(given) + 1),
    )


def _computed(expression: str, parts: list[float]) -> float | None:
    left, right = parts
    for sign, number in _OPERATIONS.items():
        if sign in expression:
            if number == 3:
                return left / right if right else None
            return (left + right, left - right, left * right)[number]
    return None


def _gaps(options: dict[str, str], chosen: str, numbers: list[float]) -> Iterable[float]:
    """Say how far the last number worked out is from the choice, and how many other choices are nearer."""
    if chosen not in options or not numbers:
        return -1.0, -1.0
    values = {letter: value for letter, text in options.items() if (value := _first_number(text)) is not None}
    if chosen not in values:
        return -1.0, -1.0
    last = numbers[-1]
    gap = abs(values[chosen] - last)
    return min(2.0, gap / (abs(values[chosen]) + abs(last) + 1e-9)), float(
        sum(1 for each in values.values() if abs(each - last) < gap)
    )


_OPERATIONS: Final = {"+": 0, "-": 1, "*": 2, "x": 2, "×": 2, "/": 3, "÷": 3}


def _equations(equations: list[re.Match[str]]) -> tuple[int, int]:
    """Give how many sums of two numbers there are, and how many of them are plainly wrong."""
    count = wrong = 0
    for match in equations:
        left, right, told = _value(match[1].rstrip("%")), _value(match[3]), _value(match[4])
        if match[1].endswith("%"):
            left /= 100
        operation = _OPERATIONS[match[2]]
        if operation == 3 and right == 0:
            continue
        found = (left + right, left - right, left * right, left / (right or 1.0))[operation]
        count += 1
        wrong += abs(abs(found) - told) > 0.02 * max(1.0, abs(found))
    return count, wrong


def _repeats(text: str) -> float:
    lines = [line for line in text.splitlines() if len(line) > 12]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0
