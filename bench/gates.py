"""What the gates on language, speed and coherence find, how often they are wrong, and what they cost.

    python -m bench.gates --data DIR        # every figure of docs/gates.md
    python -m bench.gates --data DIR --cost # what they cost alone

DIR holds recorded answers of real models in the folders that its README describes (mmlu_pro_cascade, routellm,
gsm8k_6b_175b, routerarena_cached, json_schema, traffic). Without it only what is made here is measured. Nothing is fitted;
faults are made by changing recorded answers, with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from bench.quality.data import ARENA, GSM8K, SOLUTIONS, exam_answers, lettered
from bench.quality.rows import CALLS, JUDGED_TALK, rows
from gearshift.core.blueprint import ChainPolicy
from gearshift.core.gates import Candidate, Judge
from gearshift.core.gates.asked import Asked
from gearshift.core.gates.base import Gate
from gearshift.core.gates.coherence import CHECKS, CoherenceGate, Effect
from gearshift.core.gates.refusal import RefusalGate
from gearshift.core.gates.repetition import RepetitionGate
from gearshift.core.gates.window.languages import LanguageWatcher
from gearshift.core.gates.window.throughput import ThroughputWatcher
from gearshift.core.gates.window.watch import Watch
from gearshift.core.provider import TokenLogprob
from gearshift.core.request import JsonOutput
from gearshift.core.words import TaskType, VerdictResult

PASSAGES = Path(__file__).parent / "data" / "gates" / "passages.json"
TOKEN = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+\Z")
_EQUATION = re.compile(
    r"(?<![\w.,$(^*/+-] )(?<![\w.,$(^*/+-])\b\d{1,4} ?[-+*/x] ?\d{1,4} ?= ?\$?(?P<result>\d{1,6})(?=[ .\n])(?![.]\d)"
)
_LETTERS = "ABCDEFGHIJ"


class Recorded(NamedTuple):
    """One recorded answer; `is_right` is None where nobody judged it."""

    source: str
    prompt: str
    text: str
    is_right: bool | None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="the folder with recorded answers")
    parser.add_argument("--cost", action="store_true", help="measure what the gates cost, and nothing else")
    parser.add_argument(
        "--show", action="store_true", help="print the recorded answers that refusal and repetition flag"
    )
    arguments = parser.parse_args()
    answers = list(recorded(arguments.data)) if arguments.data else []
    english = [each for each in answers if len(each.text) > 500] or made_up()
    print(f"{len(answers):,} recorded answers")
    if arguments.cost:
        cost(english)
        return
    language(answers, english)
    if answers:
        coherence(answers)
        source(arguments.data)
        endings(answers, shown=arguments.show)
    speed()
    cost(english)


# -- the answers -------------------------------------------------------------------------------------------------------


def recorded(data: Path) -> Iterator[Recorded]:
    for row in rows(data, ARENA):
        for model in row["models"].values():
            score = model["score"]
            yield Recorded(
                "routerarena", row["prompt"], model["response"] or "", None if score is None else score >= 0.5
            )
    for question, model, text in exam_answers(data):
        if text:
            yield Recorded(f"mmlu_pro {model}", lettered(question), text, bool(question["correct"][model]))
    for row in rows(data, GSM8K):
        for side in ("weak", "strong"):
            yield Recorded("gsm8k", row["prompt"], row[f"{side}_response"], bool(row[f"{side}_correct"]))
    for row in rows(data, SOLUTIONS):
        for each in row["models"].values():
            yield Recorded("gsm8k_6b_175b", row["question"], each["response"], bool(each["correct"]))
    for row in rows(data, JUDGED_TALK):
        pieces = re.split(r"### (User|Assistant A):\n", row["conversation"])
        prompt = ""
        for who, turn in zip(pieces[1::2], pieces[2::2], strict=False):
            if who == "User":
                prompt += turn
            else:
                yield Recorded("mt_bench", prompt, turn.partition("<|The End")[0].strip(), None)


def made_up() -> list[Recorded]:
    text = (
        "The keeper of the lighthouse counts the ships that pass at dusk, and he writes their names into a book which "
        "has been kept since the tower was built. When the wind turns, he climbs the stairs to light the lamp. "
    ) * 6
    return [Recorded("made up", "Tell me what the keeper of the lighthouse does in the evening.", text, None)]


def candidate(answer: Recorded, text: str | None = None) -> Candidate:
    told = answer.text if text is None else text
    return Candidate(text=told, raw=told, task_type=TaskType.GENERATE, output=None, asked=Asked.of(answer.prompt))


def only(*checks: str) -> CoherenceGate:
    return CoherenceGate(dict.fromkeys(checks, Effect.REJECT))


def reason(gate: CoherenceGate, made: Candidate) -> str:
    verdict = gate.judge(made)
    return verdict.reason if verdict is not None else ""


def share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.1%})" if whole else "-"


# -- language ----------------------------------------------------------------------------------------------------------


def language(answers: Sequence[Recorded], english: Sequence[Recorded]) -> None:
    gate, chance = only("language"), random.Random(1)
    whole = sum([bool(reason(gate, candidate(each))) for each in answers])
    streamed = sum([found_at(each.prompt, each.text) is not None for each in answers])
    print("\n## language\n")
    print(f"false on recorded answers: whole {share(whole, len(answers))}, streamed {share(streamed, len(answers))}")
    passages: dict[str, list[str]] = json.loads(PASSAGES.read_text("utf-8"))
    lawful = [(passages[name][0], passages[name][1]) for name in passages] + [
        (f"Translate this into {name.split('_')[0]}: the pump is in the cellar of the house.", text)
        for name, texts in passages.items()
        for text in texts
    ]
    wrong = sum([found_at(prompt, text) is not None or bool(reason(gate, candidate(Recorded("", prompt, text, None))))
                 for prompt, text in lawful])  # fmt: skip
    print(f"false on answers in the language that was asked for: {share(wrong, len(lawful))}")
    print("\n| language | whole answer | switch in a stream | seen after characters: p50 | p90 | most |")
    print("|---|---|---|---|---|---|")
    all_delays: list[int] = []
    totals = [0, 0, 0]
    for name, texts in passages.items():
        delays: list[int] = []
        found = 0
        for text in texts:
            for _ in range(50):
                answer = chance.choice(english)
                found += bool(reason(gate, candidate(answer, text)))
                cut = chance.choice([each.end() for each in re.finditer(r"\s", answer.text)][5:200])
                before = answer.text[:cut] + ("\n```\n" if answer.text[:cut].count("```") % 2 else "")
                end = found_at(answer.prompt, before + text)
                if end is not None:
                    delays.append(end - len(before))
        delays.sort()
        all_delays += delays
        totals = [totals[0] + found, totals[1] + len(delays), totals[2] + 100]
        print(f"| {name} | {found} % | {len(delays)} % | {at(delays, 0.5)} | {at(delays, 0.9)} | {at(delays, 1)} |")
    all_delays.sort()
    print(f"| all | {totals[0] / totals[2]:.1%} | {totals[1] / totals[2]:.1%} | {at(all_delays, 0.5)} "
          f"| {at(all_delays, 0.9)} | {at(all_delays, 1)} |")  # fmt: skip
    print(f"99 of 100 within {at(all_delays, 0.99)} characters")


def found_at(prompt: str, text: str) -> int | None:
    """Give the character up to which a stream had come when a wrong language was seen."""
    watch = Watch([LanguageWatcher(prompt)], tokens=32, seconds=60.0, now=0.0)
    end = 0
    for number, token in enumerate(TOKEN.findall(text)):
        end += len(token)
        if watch.feed(token, 1, (), number * 0.01) is not None:
            return end
    return end if watch.look(1e6) is not None else None


def at(values: Sequence[float], part: float) -> float | str:
    return round(values[min(len(values) - 1, int(part * len(values)))], 2) if values else "-"


# -- coherence ---------------------------------------------------------------------------------------------------------


def coherence(answers: Sequence[Recorded]) -> None:
    print("\n## coherence: what is flagged in recorded answers\n")
    print("| check | reason | flags | judged | of these the answer is wrong | wrong anyway | by source |")
    print("|---|---|---|---|---|---|---|")
    judged = [each for each in answers if each.is_right is not None]
    base = sum([not each.is_right for each in judged]) / len(judged)
    for name in CHECKS:
        gate = only(name)
        flags: dict[str, list[Recorded]] = defaultdict(list)
        for each in answers:
            if said := reason(gate, candidate(each)):
                flags[said].append(each)
        for said, flagged in flags.items():
            known = [each for each in flagged if each.is_right is not None]
            wrong = sum([not each.is_right for each in known])
            sources = Counter(each.source.partition(" ")[0] for each in flagged)
            print(f"| {name} | {said} | {len(flagged)} | {len(known)} | {share(wrong, len(known))} | {base:.0%} "
                  f"| {', '.join(f'{source} {count}' for source, count in sources.most_common())} |")  # fmt: skip
        if not flags:
            print(f"| {name} | - | 0 | 0 | - | {base:.0%} | |")
    print("\nfaults that were made in right answers, and found:\n")
    chance = random.Random(2)
    right = [each for each in answers if each.is_right and len(each.text) > 200]
    faults: list[tuple[str, str, Callable[[Recorded, random.Random], str | None]]] = [
        ("structure", "cut off after a random word", cut_off),
        ("structure", "a code block's last fence taken away", unfenced),
        ("arithmetic", "a digit of a result changed", slipped),
        ("contradiction", "another choice stated at the beginning", contradicted),
        ("conclusion", "the final number changed", concluded),
    ]
    for name, said, fault in faults:
        gate, found, made = only(name), 0, 0
        for each in right:
            text = fault(each, chance)
            if text is not None:
                made += 1
                found += bool(reason(gate, candidate(each, text)))
        print(f"- {name}: {said}: {share(found, made)}")
    gate = only("emptiness")
    print(
        f"- emptiness: own examples: {share(sum([bool(reason(gate, candidate(right[0], each))) for each in EMPTY]), len(EMPTY))}"
    )


EMPTY = (
    "Certainly!", "Sure, here is the summary:", "Of course! I'd be happy to help you with that.", "Here's the answer:",
    "Great question!", "I'll get started on that right away.", "Sure! Here is a poem about autumn:\n\n[Insert poem here]",
    "The final answer is:", "...", "Let's think step by step.", "Thank you for your question.", "**Answer:**", "\\boxed{}",
    "Okay, let me think about this.", "Here are three ideas for your trip:", "Absolutely! Below is the text you asked for:",
    "[Your answer here]", "TODO", "I understand. I will help you with this request.", "Sure thing!\n\nHere's a plan:\n",
)  # fmt: skip


def cut_off(answer: Recorded, chance: random.Random) -> str | None:
    spaces = [each.start() for each in re.finditer(" ", answer.text)]
    return answer.text[: chance.choice(spaces[len(spaces) // 2 :])] if len(spaces) > 20 else None


def unfenced(answer: Recorded, chance: random.Random) -> str | None:
    return answer.text[: answer.text.rindex("```")] if answer.text.count("\n```") >= 2 else None


def slipped(answer: Recorded, chance: random.Random) -> str | None:
    found = _EQUATION.search(answer.text)
    if found is None:
        return None
    start, end = found.span("result")
    place = chance.randrange(start, end)
    digit = chance.choice([each for each in "123456789" if each != answer.text[place]])
    return f"{answer.text[:place]}{digit}{answer.text[place + 1 :]}"


def contradicted(answer: Recorded, chance: random.Random) -> str | None:
    stated = re.findall(r"[Tt]he answer is \(?([A-J])\)?", answer.text)
    if len(stated) != 1:
        return None
    return f"The answer is ({chance.choice(_LETTERS.replace(stated[0], ''))}). {answer.text}"


def concluded(answer: Recorded, chance: random.Random) -> str | None:
    found = re.search(r"#### \$?(\d+)\s*\Z", answer.text)
    return None if found is None else f"{answer.text[: found.start(1)]}{int(found[1]) + chance.randrange(1, 50)}"


def source(data: Path) -> None:
    """Right calls of functions, as documents extracted from the request; then with one value of another call."""
    gate, chance = only("source"), random.Random(3)
    cases: list[tuple[str, dict[str, Any]]] = []
    for row in rows(data, CALLS):
        accepted = next(iter(row["accepted"][0].values()))
        values = {key: value[0] for key, value in accepted.items() if value and value[0] not in ("", None)}
        if values and len(row["messages"]) == 1:
            cases.append((row["messages"][0]["content"], values))

    def flagged(prompt: str, document: dict[str, Any]) -> bool:
        text = json.dumps(document)
        made = Candidate(text=text, raw=text, task_type=TaskType.EXTRACT, output=JsonOutput(), asked=Asked.of(prompt))
        return bool(reason(gate, made))

    false = sum([flagged(*case) for case in cases])
    found = made = 0
    for prompt, values in cases:
        key = chance.choice(list(values))
        other = chance.choice(chance.choice(cases)[1:])
        value = chance.choice(list(other.values()))
        if (
            isinstance(value, str | int | float)
            and not isinstance(value, bool)
            and str(value).lower() not in prompt.lower()
        ):
            made += 1
            found += flagged(prompt, {**values, key: value})
    print(f"- source: right documents flagged: {share(false, len(cases))}; foreign values found: {share(found, made)}")


# -- refusals and loops ------------------------------------------------------------------------------------------------


def endings(answers: Sequence[Recorded], *, shown: bool) -> None:
    """What the gates on refusals and loops flag in recorded answers, and which of those that were made they find."""
    print("\n## refusal and repetition\n")
    print("| gate | reason | flags | judged | of these the answer is wrong |\n|---|---|---|---|---|")
    gates: list[Gate] = [RefusalGate(), RepetitionGate()]
    for gate in gates:
        flags: dict[str, list[Recorded]] = defaultdict(list)
        for each in answers:
            if said := failure(gate, candidate(each)):
                flags[said].append(each)
        for said, flagged in flags.items():
            known = [each for each in flagged if each.is_right is not None]
            wrong = sum([not each.is_right for each in known])
            print(f"| {gate.name} | {said} | {len(flagged)} | {len(known)} | {share(wrong, len(known))} |")
            for each in flagged if shown else ():
                print(f"    {each.source}: {each.text[:120]!r} … {each.text[-160:]!r}")
        if not flags:
            print(f"| {gate.name} | - | 0 | 0 | - |")
    chance = random.Random(5)
    right = [each for each in answers if each.is_right and len(each.text) > 200]
    refusal, repetition = gates
    made = [(answer, looped(answer, chance)) for answer in chance.sample(right, min(2000, len(right)))]
    found = sum([bool(failure(repetition, candidate(answer, text))) for answer, text in made])
    print(f"\n- repetition: a sentence repeated to the end, six times or more: {share(found, len(made))}")
    found = sum([bool(failure(refusal, candidate(right[0], each))) for each in REFUSALS])
    print(f"- refusal: own examples of refusals: {share(found, len(REFUSALS))}")
    missed = [each for each in REFUSALS if not failure(refusal, candidate(right[0], each))]
    print(f"  missed: {missed}")
    found = sum([bool(failure(refusal, candidate(right[0], each))) for each in NO_REFUSALS])
    print(f"- refusal: own examples of answers that only sound like one, flagged: {share(found, len(NO_REFUSALS))}")
    cut = [broken_off(answer, chance) for answer in chance.sample(right, min(2000, len(right)))]
    found = sum([bool(failure(refusal, candidate(right[0], each))) for each in cut])
    print(f"- refusal: answers that break off to refuse: {share(found, len(cut))}")


def failure(gate: Gate, made: Candidate) -> str:
    verdict = gate.judge(made)
    return verdict.reason if verdict is not None and verdict.result is VerdictResult.FAIL else ""


def looped(answer: Recorded, chance: random.Random) -> str:
    sentences = [each.group() for each in re.finditer(r"[^.\n]{20,200}[.\n]\s*", answer.text)] or [
        "and so it goes on. "
    ]
    place = chance.randrange(len(sentences))
    return "".join(sentences[:place]) + sentences[place] * chance.randrange(6, 12)


def broken_off(answer: Recorded, chance: random.Random) -> str:
    ends = [each.end() for each in re.finditer(r"[.\n]\s", answer.text)] or [len(answer.text)]
    return f"{answer.text[: chance.choice(ends)]} {chance.choice(BREAKS)}"


BREAKS = (
    "I'm sorry, but I cannot continue with this request.", "I cannot continue this conversation.", "Sorry, I can't help with that.",
    "I am unable to provide this answer.", "I won't go on with this topic.", "Apologies, but I can't complete this task.",
    "On reflection, this is something I should not be answering.", "I have to stop here, since this breaks my guidelines.",
)  # fmt: skip
REFUSALS = (
    "I'm sorry, but I can't help with that.", "I cannot assist with this request.", "Sorry, I can't do that.",
    "I am unable to provide medical advice.", "As an AI, I don't have the ability to browse the internet.",
    "Unfortunately, I cannot share that information.", "I won't write this.", "I must decline to answer this question.",
    "I'm afraid I can't answer that.", "I can't provide instructions for this.", "I am not able to help you with this.",
    "Apologies, but I cannot generate that content.", "This request goes against my guidelines.", "I'm not comfortable answering this.",
    "I'd rather not discuss this subject.", "That is not something I can help with.", "No, I will not do that.",
    "My guidelines prevent me from answering.", "I can’t engage with this topic.", "It would be inappropriate for me to answer that.",
    "I'm really sorry you feel this way, but I am unable to help.", "I do not have enough information to answer.",
    "As a large language model, I cannot have opinions.", "I’m sorry, I can’t comply with that.",
)  # fmt: skip
NO_REFUSALS = (
    "I can't recommend this restaurant enough: the soup is excellent.", "Sorry for the delay! The parcel left on Monday.",
    "I cannot overstate how much the gear ratio matters here. Start with 2:1.", "Unfortunately, the train is late by ten minutes.",
    "The reply was: “I cannot help with that request.” She then rang the office.", "We cannot divide by zero, so x must not be 3.",
    "I'm sorry to hear that. Try turning it off and on again.", "No. The answer is 4.", "The tenant will not provide a deposit.",
    "I am afraid of heights, wrote the pilot.", "An AI cannot feel pain; philosophers disagree about why.", "Apologies accepted.",
)  # fmt: skip


# -- speed -------------------------------------------------------------------------------------------------------------


def speed() -> None:
    """Streams with log-normal gaps, bursts and pauses; what is called slow and after how long."""
    print(
        "\n## throughput: 0.5 tokens a second at least\n\n| stream | tokens/s | called slow | after s, p50 |\n|---|---|---|---|"
    )
    chance = random.Random(4)
    shapes: list[tuple[str, Callable[[], list[tuple[float, int]]]]] = [
        ("steady, log-normal gaps", lambda: [(chance.lognormvariate(-3.9, 0.8), 1) for _ in range(400)]),
        ("slow model, 4 a second", lambda: [(chance.lognormvariate(-1.6, 0.7), 1) for _ in range(200)]),
        ("bursts of 20, 1 to 5 s apart", lambda: [(chance.uniform(1, 5), 20) for _ in range(20)]),
        ("first token after 3 to 25 s", lambda: [(chance.uniform(3, 25), 1)] + [(0.03, 1)] * 200),
        ("one pause of 5 to 14 s", lambda: [(0.02, 1)] * 100 + [(chance.uniform(5, 14), 1)] + [(0.02, 1)] * 100),
        ("two pauses of 5 to 14 s", lambda: ([(0.02, 1)] * 60 + [(chance.uniform(5, 14), 1)]) * 2 + [(0.02, 1)] * 60),
        (
            "drip, one token in 2.5 to 10 s",
            lambda: [(0.02, 1)] * 50 + [(chance.uniform(2.5, 10), 1) for _ in range(40)],
        ),
        ("drip from the start", lambda: [(chance.uniform(2.5, 10), 1) for _ in range(40)]),
    ]
    for name, shape in shapes:
        slow, delays, rates = 0, list[float](), list[float]()
        for _ in range(1000):
            gaps = shape()
            watch = Watch([ThroughputWatcher(0.5, 2.0)], tokens=32, seconds=1.0, now=0.0)
            now = began = 0.0
            rates.append(sum([count for _, count in gaps]) / sum([gap for gap, _ in gaps]))
            for gap, count in gaps:
                if gap > 2 and not began:
                    began = now
                now += gap
                if watch.feed("word " * count, count, (), now) is not None:
                    slow += 1
                    delays.append(now - began)
                    break
        delays.sort()
        print(f"| {name} | {statistics.median(rates):.2f} | {slow / 10:.1f} % | {at(delays, 0.5)} |")


# -- cost --------------------------------------------------------------------------------------------------------------


def cost(english: Sequence[Recorded]) -> None:
    policy = ChainPolicy(
        max_attempts=8, max_hops=4, max_cost_usd=Decimal(1), min_confidence=0.85, escalation_threshold=0.75, require_valid=False,
        require_confidence=False, second_look=False, enforce_schema=True, check_coherence=True,
    )  # fmt: skip
    judge = Judge(policy)
    print("\n## cost\n\nwatching, all gates, CPU time, windows of 32 tokens, with log-probabilities:\n")
    print(
        "| tokens in the stream | µs a token, mean | p99 of single tokens | tokens that end a window: p50 | p99 |\n|---|---|---|---|---|"
    )
    text = "\n\n".join([each.text for each in english[:4000]])
    tokens = TOKEN.findall(text[:400_000])
    while len(tokens) < 40_000:
        tokens += tokens
    for length in (32, 1024, 32_768):
        times: list[float] = []
        each_token: list[float] = []
        per_token: list[float] = []
        for round_ in range(max(1, 65_536 // length) if length < 32_768 else 3):
            start = (round_ * length) % (len(tokens) - length)
            part = [(token, (TokenLogprob(token, -0.4),)) for token in tokens[start : start + length]]
            watch = judge.watch("Explain how the thing works, and say what is to be done with it.", 0.0)
            began = time.thread_time()
            for number, (token, logprobs) in enumerate(part):
                before = time.thread_time()
                watch.feed(token, 1, logprobs, number * 0.01)
                after = time.thread_time() - before
                each_token.append(after * 1e6)
                if number % 32 == 31:
                    times.append(after * 1e6)
            per_token.append((time.thread_time() - began) / length * 1e6)
        times.sort()
        each_token.sort()
        print(
            f"| {length:,} | {statistics.median(per_token):.2f} | {at(each_token, 0.99)} | {at(times, 0.5)} | {at(times, 0.99)} |"
        )
    print(
        "\nat the end, all gates that are on by default, CPU time, the best of three tries:\n\n| answer | µs p50 | p99 |\n|---|---|---|"
    )
    for name, least, most in (
        ("0.4 to 0.7 KiB", 400, 700),
        ("1.5 to 2.5 KiB", 1500, 2500),
        ("4 KiB and more", 4096, 10**9),
    ):
        parts = [each for each in english if least <= len(each.text) <= most][:2000]
        if not parts:
            continue
        times = []
        for each in parts:
            tries: list[float] = []
            for _ in range(3):
                made = candidate(each)
                before = time.thread_time()
                judge.judge(made)
                tries.append((time.thread_time() - before) * 1e6)
            times.append(min(tries))
        times.sort()
        print(f"| {name} ({len(parts)}) | {at(times, 0.5)} | {at(times, 0.99)} |")


if __name__ == "__main__":
    main()
