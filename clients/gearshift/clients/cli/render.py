"""Shows a decision: how a task was understood, what was tried and why, what it cost.

Rules: pure functions from messages to text; nothing of the answer's content is in it. The command line and
`gearshift demo` print the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import Any

from gearshift.clients.cli.terminal import Palette, safe, table
from gearshift.clients.errors import RpcError
from gearshift.v1 import answer_pb2, call_pb2, router_pb2, stream_pb2, task_pb2

_SOURCES = {
    task_pb2.SOURCE_CALLER: "as asked",
    task_pb2.SOURCE_DECLARATION: "as declared",
    task_pb2.SOURCE_OUTPUT: "from the output spec",
    task_pb2.SOURCE_CLASSIFIER: "by the classifier",
    task_pb2.SOURCE_DEFAULT: "by default",
    task_pb2.SOURCE_TENANT: "by the tenant's floor",
}


def word(enum: Any, value: int) -> str:
    """Give the word of an enum's value, such as "second look"; an unset one is "-"."""
    found = enum.DESCRIPTOR.values_by_number.get(value)
    if found is None:
        return str(value)
    zero: str = enum.DESCRIPTOR.values_by_number[0].name
    name: str = found.name.removeprefix(zero.removesuffix("UNSPECIFIED")).lower().replace("_", " ")
    return "-" if name == "unspecified" else name


def stage_name(stage: answer_pb2.StageRef) -> str:
    """Give a stage as provider/model, with its label when it has one."""
    name = f"{stage.provider}/{stage.model}"
    return safe(f"{name} ({stage.label})" if stage.label else name)


def money(amount: str) -> str:
    """Give an amount of USD; one that is not known is "unknown"."""
    try:
        value = Decimal(amount)
    except InvalidOperation:
        return "unknown"
    if value == 0:
        return "$0"
    if abs(value) >= 1:
        return f"${value:,.2f}"
    places = max(2, 1 - value.adjusted())  # two digits that say something
    return f"${value:.{places}f}"


def milliseconds(amount: float) -> str:
    """Give a time in the unit that fits it."""
    if amount >= 10_000:
        return f"{amount / 1000:.1f} s"
    return f"{amount:.0f} ms" if amount >= 10 else f"{amount:.1f} ms"


def resolution(task: task_pb2.Resolution) -> str:
    """Give the task as it was understood, with the source of each axis, in a line."""
    sure = f", {task.type_confidence:.0%} sure" if task.type_source == task_pb2.SOURCE_CLASSIFIER else ""
    axes = (
        f"{word(task_pb2.TaskType, task.type)} {_SOURCES.get(task.type_source, '')}{sure}",
        f"{word(task_pb2.Complexity, task.complexity)} {_SOURCES.get(task.complexity_source, '')}",
        f"{word(task_pb2.Sensitivity, task.sensitivity)} {_SOURCES.get(task.sensitivity_source, '')}",
    )
    declared = "declared" if task.declared else "not declared"
    return safe(" · ".join((f"{task.task_id} ({declared})", *axes)))


def verdicts(found: Iterable[answer_pb2.Verdict], palette: Palette, *, is_brief: bool = False) -> str:
    """Give each gate's word, in a line; a brief one gives reasons only for what did not pass."""
    said: list[str] = []
    for one in found:
        result = word(answer_pb2.VerdictResult, one.result)
        measured = f" {one.confidence:.2f}" if one.HasField("confidence") else ""
        why = f" ({safe(one.detail or one.reason)})" if one.detail or one.reason else ""
        if is_brief and one.result in (answer_pb2.VERDICT_RESULT_PASS, answer_pb2.VERDICT_RESULT_UNMEASURED):
            why = ""
        paint = {
            answer_pb2.VERDICT_RESULT_PASS: palette.good,
            answer_pb2.VERDICT_RESULT_FAIL: palette.bad,
            answer_pb2.VERDICT_RESULT_LOW: palette.bad,
        }.get(one.result, palette.warn)
        said.append(f"{safe(one.gate)} {paint(result)}{measured}{why}")
    return " · ".join(said)


def attempts(made: Iterable[answer_pb2.Attempt], palette: Palette) -> str:
    """Give the attempts as a table, with why each was made and how it ended."""
    headings = ("#", "stage", "why", "how it ended", "tokens", "waited", "first", "total", "cost")
    rows = [
        (
            str(one.number),
            stage_name(one.stage) + (f" [{safe(one.account)}]" if one.account else ""),
            word(answer_pb2.AttemptCause, one.cause),
            _ending(one, palette),
            f"{one.usage.input_tokens} → {one.usage.output_tokens}",
            milliseconds(one.queue_ms) if one.queue_ms else "-",
            milliseconds(one.first_token_ms) if one.HasField("first_token_ms") else "-",
            milliseconds(one.total_ms),
            money(one.cost_usd),
        )
        for one in made
    ]
    return table(headings, rows, palette, right="r   rrrrr") if rows else "no upstream call was made"


def decision(answer: answer_pb2.Answer, palette: Palette) -> str:
    """Give all that is known of how an answer came about."""
    done = answer.completion
    lines = [("task", resolution(answer.resolution)), ("request", safe(answer.request_id))]
    lines.append(("outcome", _outcome(done, palette)))
    body = [*lines, ("", attempts(done.attempts, palette))]
    body += [("skipped", f"{stage_name(one.stage)}: {safe(one.reason)}, {safe(one.detail)}") for one in done.skipped]
    if done.verdicts:
        body.append(("gates", verdicts(done.verdicts, palette)))
    body.append(("tokens", usage(done.usage_total)))
    body.append(("latency", milliseconds(done.total_ms)))
    body.append(("cost", cost(done.cost, palette)))
    if done.label_probabilities:
        ranked = sorted(done.label_probabilities.items(), key=lambda item: -item[1])[:5]
        body.append(("labels", " · ".join(f"{safe(label)} {share:.2f}" for label, share in ranked)))
    if done.prompt_key:
        body.append(("prompt", f"stored as {safe(done.prompt_key)}"))
    body += [("note", safe(note)) for note in done.notes]
    return fields(body, palette)


def usage(used: answer_pb2.Usage) -> str:
    """Give a count of tokens, in a line."""
    text = f"{used.input_tokens} in, {used.output_tokens} out"
    for amount, name in (
        (used.cache_read_tokens, "read from cache"),
        (used.cache_write_tokens, "written to cache"),
        (used.reasoning_tokens, "of reasoning"),
    ):
        if amount:
            text += f", {amount} {name}"
    source = word(answer_pb2.UsageSource, used.source)
    return text if source == "-" else f"{text} ({source})"


def cost(spent: answer_pb2.Cost, palette: Palette) -> str:
    """Give a cost beside what the strongest model would have taken, in a line."""
    text = palette.bold(money(spent.total_usd))
    if spent.saved_usd:
        text += f" · the cache saved {money(spent.saved_usd)}"
    if not spent.strongest_model:
        return text
    text += f" · {safe(spent.strongest_model)} would have cost {money(spent.strongest_usd)}"
    share = saving(spent.total_usd, spent.strongest_usd)
    return f"{text} · {palette.good(share) if share.endswith('less') else share}" if share else text


def saving(total: str, strongest: str) -> str:
    """Give how much less (or more) total is than strongest; empty when it cannot be said."""
    try:
        spent, reference = Decimal(total), Decimal(strongest)
    except InvalidOperation:
        return ""
    if reference <= 0:
        return ""
    share = 1 - spent / reference
    if share < 0:
        return f"{-share:.0%} more"
    # Near the whole, a digit more: 99.8 % less is not 100 %.
    places = 1 if Decimal("0.99") <= share < 1 else 0
    return f"{share.quantize(Decimal(1).scaleb(-2 - places), ROUND_DOWN):.{places}%} less"


def explanation(explained: router_pb2.ExplainResponse, palette: Palette) -> str:
    """Give what would be decided."""
    rows = [
        (
            stage_name(one.stage),
            word(task_pb2.Complexity, one.stage.capability),
            palette.good("planned") if one.planned else palette.warn(f"skipped: {safe(one.reason)}"),
            money(one.expected_cost_usd),
            safe(one.breaker),
            safe(one.detail),
        )
        for one in explained.stages
    ]
    weighed = [
        (
            stage_name(one.stage),
            f"{one.weighed.p_accept:.0%}",
            f"{one.weighed.answers:.0f}",
            f"{one.weighed.p_fail:.1%}",
            milliseconds(one.weighed.seconds * 1000) if one.weighed.HasField("seconds") else "-",
            _usd(one.weighed.cost_with_usd) if one.weighed.HasField("cost_with_usd") else "-",
            _usd(one.weighed.cost_without_usd) if one.weighed.HasField("cost_without_usd") else "-",
        )
        for one in explained.stages
        if one.HasField("weighed")
    ]
    headings = ("stage", "capability", "plan", "a try costs", "breaker", "why")
    body = [
        ("task", resolution(explained.resolution)),
        ("chain", safe(explained.chain)),
        ("", table(headings, rows, palette, right="   r") if rows else "no stage"),
        ("order", _order(explained) if explained.HasField("adaptive") else ""),
        ("", table(_WEIGHED, weighed, palette, right=" rrrrrr") if weighed else ""),
        ("tokens", f"{explained.estimated_input_tokens} in, {explained.estimated_output_tokens} out (estimated)"),
        ("policy", " · ".join(f"{name} {value}" for name, value in sorted(explained.policy.items()))),
        ("stream", _stream_policy(explained.stream)),
        (
            "commits",
            f"{word(stream_pb2.CheckpointPolicy, explained.checkpoints)}: {safe(explained.checkpoints_reason)}",
        ),
    ]
    return fields([(name, text) for name, text in body if text], palette)


_WEIGHED = ("weighed", "accepted", "answers", "failed", "takes", "answer with it", "without it")


def _order(explained: router_pb2.ExplainResponse) -> str:
    """Give how a weighed order came about."""
    order = explained.adaptive
    costs = ""
    if order.HasField("expected_usd") and order.HasField("written_usd"):
        costs = f" · an accepted answer {_usd(order.expected_usd)}, as written {_usd(order.written_usd)}"
    return (
        f"{safe(explained.policy.get('order', 'adaptive'))}: {safe(order.reason)}{costs} · {order.probe_share:.1%} of the calls probe "
        "the written order"
    )


def _usd(amount: float) -> str:
    """Give an expected amount, which no bill knows to the digit."""
    return f"{amount:.3g} USD"


def event_notice(event: stream_pb2.Event) -> str:
    """Give a line on an event that a reader of a stream may want to know of; empty for the others."""
    match event.WhichOneof("kind"):
        case "attempt":
            cause = word(answer_pb2.AttemptCause, event.attempt.cause)
            why = f": {event.attempt.detail}" if event.attempt.detail else ""
            return f"{cause} · {stage_name(event.attempt.stage)}{safe(why)}"
        case "switch":
            mode = word(call_pb2.SwitchMode, event.switch.mode)
            names = f"{stage_name(event.switch.from_stage)} → {stage_name(event.switch.to_stage)}"
            return f"switch ({mode}) · {names}: {safe(event.switch.reason)}"
        case "retract":
            return f"taken back: {safe(event.retract.reason)}"
        case _:
            return ""


def failure(error: RpcError, palette: Palette) -> str:
    """Give a failed call: what went wrong, where, what was tried, how long to wait."""
    reason = f" ({error.reason})" if error.reason else ""
    lines = [f"{palette.bad(error.code.name)}{reason}: {safe(error.message)}"]
    said = [f"{one.field}: {one.description}" for one in error.violations]
    lines += [f"  {safe(text)}" for text in said if text != error.message]
    lines += [f"  {safe(one.subject)}: {safe(one.description)}" for one in error.quota]
    lines += [f"  {safe(name)}: {safe(value)}" for name, value in sorted(error.info.items())]
    if error.attempts:
        lines.append(attempts(error.attempts, palette))
    if error.retry_after:
        lines.append(f"  try again in {error.retry_after:g} s")
    return "\n".join(lines)


def fields(body: Iterable[tuple[str, str]], palette: Palette) -> str:
    """Give named lines; one without a name is a block of its own, indented."""
    lines: list[str] = []
    for name, text in body:
        if name:
            lines.append(f"{palette.dim(f'{name:<8}')} {text}")
        else:
            lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines)


def _ending(one: answer_pb2.Attempt, palette: Palette) -> str:
    outcome = word(answer_pb2.AttemptOutcome, one.outcome)
    failed = word(answer_pb2.FailureKind, one.failure)
    text = outcome if failed == "-" else f"{outcome} ({failed})"
    paint = palette.good if one.outcome == answer_pb2.ATTEMPT_OUTCOME_ACCEPTED else palette.warn
    said = verdicts(one.verdicts, palette, is_brief=True) or safe(one.detail)
    role = "check, " if one.role == answer_pb2.ATTEMPT_ROLE_CHECK else ""
    return f"{role}{paint(text)}: {said}" if said else f"{role}{paint(text)}"


def _outcome(done: answer_pb2.Completion, palette: Palette) -> str:
    paint = palette.good if done.outcome == answer_pb2.OUTCOME_ACCEPTED else palette.warn
    parts = [paint(word(answer_pb2.Outcome, done.outcome))]
    if done.HasField("served_by"):
        parts.append(f"served by {stage_name(done.served_by)}")
    if done.HasField("confidence"):
        parts.append(f"confidence {done.confidence:.2f}")
    if done.cached:
        parts.append("from the response cache")
    if done.finish_reason not in (answer_pb2.FINISH_REASON_UNSPECIFIED, answer_pb2.FINISH_REASON_STOP):
        parts.append(f"ended by {word(answer_pb2.FinishReason, done.finish_reason)}")
    return " · ".join(parts)


def _stream_policy(policy: call_pb2.StreamPolicy) -> str:
    parts: list[str] = []
    if policy.HasField("hold_back_tokens"):
        parts.append(f"hold {policy.hold_back_tokens} tokens")
    if policy.HasField("hold_back_ms"):
        parts.append(f"hold {policy.hold_back_ms} ms")
    if policy.mode:
        parts.append(word(call_pb2.SwitchMode, policy.mode))
    flags = (("escalate_at_end", "escalates at the end"), ("preview", "preview"), ("include_reasoning", "reasoning"))
    parts += [text for name, text in flags if getattr(policy, name)]
    return " · ".join(parts)
