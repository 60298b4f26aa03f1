"""Cases written by hand: what each rule of the contract allows, and each way to break it."""

from __future__ import annotations

from typing import Any, Final

from tests.conformance.error_cases import exhausted, not_accepted, out_of_time
from tests.conformance.format import Json, case, digest

LIGHT: Final[Json] = {"provider": "cheap", "model": "small", "capability": "COMPLEXITY_LOW"}
STRONG: Final[Json] = {"position": 1, "provider": "strong", "model": "large", "capability": "COMPLEXITY_HIGH"}
_CALL_ID: Final = "call_1"


def started(*, checkpoints: str = "NONE", **more: Any) -> Json:
    """Open a stream."""
    return {
        "started": {"requestId": "r-1", "plan": [LIGHT, STRONG], "checkpoints": f"CHECKPOINT_POLICY_{checkpoints}"}
        | more
    }


def attempt(number: int, stage: Json = LIGHT, cause: str = "FIRST", role: str = "ANSWER") -> Json:
    """Begin an upstream call."""
    return {
        "attempt": {
            "number": number,
            "stage": stage,
            "role": f"ATTEMPT_ROLE_{role}",
            "cause": f"ATTEMPT_CAUSE_{cause}",
        }
    }


def delta(number: int, *parts: str | Json, passed: int = 0) -> Json:
    """Give content; a string is text."""
    made: Json = {"number": number, "parts": [{"text": each} if isinstance(each, str) else each for each in parts]}
    return {"delta": made | ({"passedThrough": passed} if passed else {})}


def thought(text: str) -> Json:
    """Give a part of reasoning."""
    return {"reasoning": text}


def fragment(index: int, arguments: str, *, call_id: str = "", name: str = "") -> Json:
    """Give a part of a tool call."""
    made: Json = {"index": index} if index else {}
    made |= {"id": call_id} if call_id else {}
    made |= {"name": name} if name else {}
    return {"toolCall": made | {"arguments": arguments}}


def checkpoint(through: int) -> Json:
    """Commit."""
    return {"checkpoint": {"through": through}}


def retract(after: int) -> Json:
    """Take back; JSON leaves a zero out."""
    return {"retract": ({"after": after} if after else {}) | {"reason": "the connection broke"}}


def switch(mode: str = "REGENERATE") -> Json:
    """Tell that another attempt takes over."""
    return {
        "switch": {
            "fromStage": LIGHT,
            "toStage": STRONG,
            "mode": f"SWITCH_MODE_{mode}",
            "reason": "the connection broke",
        }
    }


def completed(text: str = "", *, calls: tuple[Json, ...] = (), outcome: str = "ACCEPTED", wrong: str = "") -> Json:
    """Close a stream whose final text is this."""
    completion = {"outcome": f"OUTCOME_{outcome}", "digest": wrong or digest(text, calls)}
    return {"completed": {"completion": completion} | ({"toolCalls": list(calls)} if calls else {})}


def broken(rule: str) -> Json:
    """Give the error of a broken rule."""
    return {"kind": "protocol", "rule": rule}


def rule_cases() -> list[Json]:
    """Give every case."""
    return [*_plain(), *_unicode(), *_parts(), *_switches(), *_checkpoints(), *_ends(), *_breaches(), *_late_breaches()]


def _plain() -> list[Json]:
    return [
        case(
            "one delta",
            "The shortest answer.",
            [[started(), attempt(1)], [delta(1, "Hello.")], [completed("Hello.")]],
            text="Hello.",
            live=[1],
        ),
        case(
            "everything in one message",
            "A message is a list of events; what comes in one may come in many.",
            [[started(), attempt(1), delta(1, "Hel"), delta(2, "lo."), completed("Hello.")]],
            text="Hello.",
        ),
        case(
            "a message for each event",
            "The same answer, event by event.",
            [[started()], [attempt(1)], [delta(1, "Hel")], [delta(2, "lo.")], [completed("Hello.")]],
            text="Hello.",
        ),
        case(
            "gaps in the numbers",
            "Numbers rise; they need not follow each other.",
            [[started(), attempt(1)], [delta(3, "a"), delta(17, "b")], [delta(4294967295, "c")], [completed("abc")]],
            text="abc",
            live=[3, 17, 4294967295],
        ),
        case(
            "an empty answer",
            "No delta at all; the digest is that of no bytes.",
            [[started(), attempt(1)], [completed("")]],
            text="",
            digest="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        case(
            "empty deltas",
            "A delta of no parts, of an empty part, or of an empty text is a live delta all the same.",
            [
                [started(), attempt(1)],
                [delta(1, "a"), delta(2), delta(3, "")],
                [{"delta": {"number": 4, "parts": [{}]}}],
                [delta(5, "b"), retract(3), delta(6, "c")],
                [completed("ac")],
            ],
            text="ac",
            live=[1, 2, 3, 6],
        ),
        case(
            "empty messages",
            "A message without events says nothing.",
            [[], [started(), attempt(1)], [], [delta(1, "a")], [completed("a")], []],
            text="a",
        ),
        case(
            "kinds of a later contract",
            "An event, and a part, whose kind the client does not know has no kind when it is read; it is passed over.",
            [
                [started(), {}, attempt(1)],
                [{}, {"delta": {"number": 1, "parts": [{"text": "a"}, {}, {"text": "b"}]}}, {}],
                [completed("ab")],
            ],
            text="ab",
        ),
        case(
            "what has passed is a hint",
            "passed_through commits nothing, and what it names may be taken back.",
            [
                [started(), attempt(1)],
                [delta(1, "a"), delta(2, "b", passed=1), delta(3, "c", passed=3)],
                [switch(), attempt(2, STRONG, "FALLBACK"), retract(0), delta(4, "d", passed=4)],
                [completed("d")],
            ],
            text="d",
            checkpoint=0,
            committed="",
        ),
        case(
            "from the response cache",
            "A cached answer makes no attempt.",
            [[started(cached=True)], [delta(1, "Kept."), completed("Kept.")]],
            text="Kept.",
        ),
        case(
            "a second look",
            "An attempt that checks another's answer emits no deltas and takes nothing back.",
            [
                [started(), attempt(1)],
                [delta(1, "yes")],
                [attempt(2, LIGHT, "SECOND_LOOK", "CHECK")],
                [completed("yes")],
            ],
            text="yes",
        ),
        case(
            "not accepted is no error",
            "The best answer that there was comes back, marked.",
            [[started(), attempt(1)], [delta(1, "Hm.")], [completed("Hm.", outcome="NOT_ACCEPTED")]],
            text="Hm.",
            outcome="OUTCOME_NOT_ACCEPTED",
        ),
    ]


def _unicode() -> list[Json]:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    return [
        case(
            "astral characters",
            "Numbers count deltas, never characters: these are two units in UTF-16, four bytes in UTF-8.",
            [
                [started(), attempt(1)],
                [delta(1, "\U0001f600"), delta(2, "\U0001d11e\U00020000")],
                [retract(1), delta(3, "\U0001f680")],
                [completed("\U0001f600\U0001f680")],
            ],
            text="\U0001f600\U0001f680",
        ),
        case(
            "a family over three deltas",
            "An emoji of several code points may be cut between them, never within one.",
            [
                [started(), attempt(1)],
                [delta(1, family[:1])],
                [delta(2, family[1:3])],
                [delta(3, family[3:])],
                [completed(family)],
            ],
            text=family,
        ),
        case(
            "combining marks stand apart",
            "Nothing is normalized: a letter and its mark are not the letter with the mark.",
            [[started(), attempt(1)], [delta(1, "e")], [delta(2, "\u0301, \u00e9")], [completed("e\u0301, \u00e9")]],
            text="e\u0301, \u00e9",
        ),
        case(
            "normalized is another text",
            "The digest is of the bytes as they came.",
            [[started(), attempt(1)], [delta(1, "e\u0301")], [completed(wrong=digest("\u00e9"))]],
            error=broken("digest_mismatch"),
            text="e\u0301",
        ),
        case(
            "scripts, signs and line ends",
            "Right-to-left text, zero-width signs, a byte order mark, CR LF, a null and line separators stand as they are.",
            [
                [started(), attempt(1)],
                [
                    delta(1, "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u4f60\u597d"),
                    delta(2, "\ufeff\u200b\u200f"),
                ],
                [delta(3, "a\r\nb\u2028c\u2029d\x00e\x7f\t")],
                [
                    completed(
                        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u4f60\u597d\ufeff\u200b\u200fa\r\nb\u2028c\u2029d\x00e\x7f\t"
                    )
                ],
            ],
            live=[1, 2, 3],
        ),
        case(
            "the replacement character",
            "U+FFFD may be in a text by right.",
            [[started(), attempt(1)], [delta(1, "\ufffd\uffff\U0010ffff")], [completed("\ufffd\uffff\U0010ffff")]],
            text="\ufffd\uffff\U0010ffff",
        ),
    ]


def _parts() -> list[Json]:
    call = {"id": _CALL_ID, "name": "weather", "arguments": '{"city": "Z\u00fcrich"}'}
    second = {"id": "call_2", "name": "clock", "arguments": "{}"}
    hard = {
        "id": 'a"b\\c/',
        "name": "na\u00efve<&>'",
        "arguments": '{"t":"\u2028\u2029\x7f\\u0000 \U0001f600\x01\x08\x0b\x0c\x1f\n\r\t e\u0301"}',
    }
    return [
        case(
            "reasoning apart",
            "Reasoning shares the numbers, is in neither text nor digest, and is taken back like the rest.",
            [
                [started(), attempt(1)],
                [delta(1, thought("First, ")), delta(2, thought("gears."), "A gear")],
                [delta(3, "box.")],
                [switch(), attempt(2, STRONG, "FALLBACK"), retract(0), delta(4, thought("Again."))],
                [delta(5, "A gearbox.")],
                [completed("A gearbox.")],
            ],
            text="A gearbox.",
            reasoning="Again.",
        ),
        case(
            "reasoning alone",
            "An answer may be all reasoning; its text is empty.",
            [[started(), attempt(1)], [delta(1, thought("Hm."))], [completed("", outcome="NOT_ACCEPTED")]],
            text="",
            reasoning="Hm.",
        ),
        case(
            "several parts in one delta",
            "Parts keep their order; a delta is taken back as a whole.",
            [
                [started(), attempt(1)],
                [delta(1, "a", thought("x"), "b", thought("y"), "c")],
                [delta(2, "d", "e"), retract(1), delta(3, "f")],
                [completed("abcf")],
            ],
            text="abcf",
            reasoning="xy",
        ),
        case(
            "a tool call in fragments",
            "Id and name come in the first fragment, arguments are appended; they are a preview until completed.",
            [
                [started(), attempt(1)],
                [delta(1, fragment(0, "", call_id=_CALL_ID, name="weather"))],
                [delta(2, fragment(0, '{"city": ')), delta(3, fragment(0, '"Z\u00fcrich"}'))],
                [completed(calls=(call,))],
            ],
            text="",
            toolCalls=[call],
        ),
        case(
            "two tool calls, mixed",
            "The index says which call a fragment belongs to; the order is that of their first fragments.",
            [
                [started(), attempt(1)],
                [
                    delta(
                        1,
                        fragment(0, '{"city": ', call_id=_CALL_ID, name="weather"),
                        fragment(1, "{", call_id="call_2", name="clock"),
                    )
                ],
                [delta(2, fragment(1, "}"), fragment(0, '"Z\u00fcrich"}'))],
                [completed(calls=(call, second))],
            ],
            toolCalls=[call, second],
        ),
        case(
            "text before a tool call",
            "Text stands beside tool calls; the digest is of the calls alone.",
            [
                [started(), attempt(1)],
                [delta(1, "I ask. ")],
                [delta(2, fragment(0, call["arguments"], call_id=_CALL_ID, name="weather"))],
                [completed("anything", calls=(call,))],
            ],
            text="I ask. ",
            toolCalls=[call],
        ),
        case(
            "a tool call after a switch",
            "Indexes begin anew with each attempt: fragments of two attempts are never joined.",
            [
                [started(), attempt(1)],
                [delta(1, fragment(0, '{"ci', call_id="call_0", name="wea"))],
                [switch(), attempt(2, STRONG, "FALLBACK"), retract(0)],
                [delta(2, fragment(0, call["arguments"], call_id=_CALL_ID, name="weather"))],
                [completed(calls=(call,))],
            ],
            toolCalls=[call],
        ),
        case(
            "a preview that was not meant",
            "After completed only its own tool calls count: a cut call is not one.",
            [
                [started(), attempt(1)],
                [delta(1, fragment(0, '{"city": "Zu', call_id=_CALL_ID, name="transfer_money"))],
                [completed("", outcome="FAILED")],
            ],
            status=exhausted()["status"],
            error={"kind": "status"} | exhausted()["expected"],
            toolCalls=[],
        ),
        case(
            "the canonical form of hard characters",
            'Canonical JSON: keys sorted, no spaces, only ", \\ and U+0000 to U+001F escaped; everything else is raw UTF-8.',
            [
                [started(), attempt(1)],
                [delta(1, fragment(0, hard["arguments"], call_id=hard["id"], name=hard["name"]))],
                [completed(calls=(hard,))],
            ],
            toolCalls=[hard],
        ),
        case(
            "a tool call without arguments",
            "An empty field is written all the same in the canonical form.",
            [
                [started(), attempt(1)],
                [delta(1, fragment(0, "", call_id=_CALL_ID, name="now"))],
                [completed(calls=({"id": _CALL_ID, "name": "now"},))],
            ],
            toolCalls=[{"id": _CALL_ID, "name": "now", "arguments": ""}],
        ),
    ]


def _switches() -> list[Json]:
    return [
        case(
            "regenerate",
            "The old text stands after the switch until the retract, which comes with the new text.",
            [
                [started(), attempt(1)],
                [delta(1, "So, "), delta(2, "basically")],
                [switch(), attempt(2, STRONG, "FALLBACK")],
                [retract(0), delta(3, "A gearbox")],
                [delta(4, " lets it run.")],
                [completed("A gearbox lets it run.")],
            ],
            text="A gearbox lets it run.",
            live=[3, 4],
        ),
        case(
            "retract to a number",
            "What is after the number goes, the number itself stays.",
            [
                [started(), attempt(1)],
                [delta(1, "a"), delta(2, "b"), delta(5, "c"), delta(6, "d")],
                [retract(2), delta(7, "e")],
                [completed("abe")],
            ],
            text="abe",
            live=[1, 2, 7],
        ),
        case(
            "nothing to take back",
            "A retract to the last live delta, or of nothing, changes nothing.",
            [
                [started(), attempt(1), retract(0)],
                [delta(1, "a"), retract(1), delta(2, "b")],
                [completed("ab")],
            ],
            text="ab",
        ),
        case(
            "retracts upon retracts",
            "Numbers that were taken back are never used again, and never named again.",
            [
                [started(), attempt(1)],
                [delta(1, "a"), delta(2, "b"), delta(3, "c")],
                [retract(1), delta(4, "d")],
                [retract(4), delta(5, "e")],
                [retract(1), delta(6, "f")],
                [retract(0), delta(7, "g")],
                [completed("g")],
            ],
            text="g",
            live=[7],
        ),
        case(
            "a retry on the same stage",
            "An attempt may follow without a switch.",
            [
                [started(), attempt(1)],
                [delta(1, "a")],
                [attempt(2, LIGHT, "RETRY")],
                [retract(0), delta(2, "b")],
                [completed("b")],
            ],
            text="b",
        ),
        case(
            "the chain dies after a switch",
            "Because the retract is lazy, the partial survives when nothing replaces it.",
            [
                [started(), attempt(1)],
                [delta(1, "Half an ans")],
                [switch(), attempt(2, STRONG, "FALLBACK")],
                [completed("Half an ans", outcome="FAILED")],
            ],
            status=exhausted()["status"],
            error={"kind": "status"} | exhausted()["expected"],
            text="Half an ans",
            outcome="OUTCOME_FAILED",
        ),
        case(
            "restore",
            "The best earlier answer comes back under new numbers, after a retract of all.",
            [
                [started(), attempt(1)],
                [delta(1, "Good, "), delta(2, "not great.")],
                [switch(), attempt(2, STRONG, "ESCALATION")],
                [retract(0), delta(3, "Worse")],
                [switch("RESTORE"), retract(0), delta(4, "Good, not great.")],
                [completed("Good, not great.", outcome="NOT_ACCEPTED")],
            ],
            text="Good, not great.",
            live=[4],
        ),
        case(
            "continue at a seam",
            "A continuation goes on behind the checkpoint; the space that begins it is its own.",
            [
                [started(checkpoints="WINDOWS"), attempt(1)],
                [delta(1, "The wheel"), delta(2, " turns"), delta(3, " slo"), checkpoint(2)],
                [switch("CONTINUE"), attempt(2, STRONG, "FALLBACK")],
                [retract(2), delta(4, " quickly.")],
                [completed("The wheel turns quickly.")],
            ],
            text="The wheel turns quickly.",
            checkpoint=2,
            committed="The wheel turns",
        ),
        case(
            "continue behind nothing",
            "A continuation that keeps all takes nothing back.",
            [
                [started(checkpoints="WINDOWS"), attempt(1)],
                [delta(1, "One"), delta(2, " two"), checkpoint(1)],
                [switch("CONTINUE"), attempt(2, STRONG, "FALLBACK"), delta(3, " three.")],
                [completed("One two three.")],
            ],
            text="One two three.",
        ),
    ]


def _checkpoints() -> list[Json]:
    return [
        case(
            "checkpoints rise",
            "Each names a live delta; the last one may be the last delta.",
            [
                [started(checkpoints="WINDOWS"), attempt(1)],
                [delta(1, "a"), delta(2, " b"), checkpoint(1)],
                [delta(4, " c"), checkpoint(2), checkpoint(4)],
                [completed("a b c")],
            ],
            checkpoint=4,
            committed="a b c",
        ),
        case(
            "a retract to the checkpoint",
            "What is committed stays, everything behind it may go.",
            [
                [started(checkpoints="WINDOWS"), attempt(1)],
                [delta(1, "a"), delta(2, " b"), delta(3, " c"), checkpoint(2)],
                [retract(2), delta(4, " d"), checkpoint(4)],
                [completed("a b d")],
            ],
            text="a b d",
            checkpoint=4,
        ),
        case(
            "committed, then not accepted",
            "A poor end after a checkpoint is told, never taken back: a checkpoint is no acceptance.",
            [
                [started(checkpoints="WINDOWS"), attempt(1)],
                [delta(1, "a"), delta(2, " b"), checkpoint(1)],
                [completed("a b", outcome="NOT_ACCEPTED")],
            ],
            committed="a",
            outcome="OUTCOME_NOT_ACCEPTED",
        ),
        case(
            "committed, then failed",
            "In the mode fail the partial stands, and the status follows.",
            [
                [started(checkpoints="WINDOWS"), attempt(1)],
                [delta(1, "a"), delta(2, " b"), checkpoint(1)],
                [completed("a b", outcome="FAILED")],
            ],
            status=exhausted()["status"],
            error={"kind": "status"} | exhausted()["expected"],
            text="a b",
        ),
        case(
            "who joins late",
            "A follower gets what is committed as one delta under the checkpoint's number, then the leader's numbers.",
            [
                [
                    started(checkpoints="WINDOWS"),
                    attempt(1),
                    delta(9, "Committed text"),
                    checkpoint(9),
                    delta(11, " and"),
                    delta(12, " live"),
                ],
                [delta(14, " text")],
                [switch("CONTINUE"), attempt(2, STRONG, "FALLBACK"), retract(11), delta(15, " more.")],
                [completed("Committed text and more.")],
            ],
            text="Committed text and more.",
            live=[9, 11, 15],
        ),
        case(
            "who joins late, before a checkpoint",
            "Numbers begin where the live text does; attempts that left nothing may be missing.",
            [
                [started(), attempt(3, STRONG, "FALLBACK"), delta(21, "Live"), delta(22, " text")],
                [retract(0), delta(23, "Other text")],
                [completed("Other text")],
            ],
            text="Other text",
        ),
        case(
            "who joins at the end",
            "All at once: one delta for each kind of part, the checkpoint, completed.",
            [
                [
                    started(checkpoints="WINDOWS"),
                    attempt(1),
                    delta(30, thought("Hm."), "All of it."),
                    checkpoint(30),
                    completed("All of it."),
                ]
            ],
            text="All of it.",
            reasoning="Hm.",
        ),
    ]


def _ends() -> list[Json]:
    refused = exhausted()
    return [
        case(
            "failed before started",
            "A call that was refused has a status and no event.",
            [],
            status=refused["status"],
            error={"kind": "status"} | refused["expected"],
        ),
        case(
            "a status without completed",
            "When even completed cannot be sent, the status says why, and the text is a partial.",
            [[started(), attempt(1)], [delta(1, "Half")]],
            status=out_of_time()["status"],
            error={"kind": "status"} | out_of_time()["expected"],
            text="Half",
            completed=False,
            digestMatches=False,
        ),
        case(
            "nothing acceptable, and it was required",
            "Under require_valid the best answer is told and the status is ABORTED.",
            [[started(), attempt(1)], [delta(1, "Hm.")], [completed("Hm.", outcome="NOT_ACCEPTED")]],
            status=not_accepted()["status"],
            error={"kind": "status"} | not_accepted()["expected"],
            text="Hm.",
            digestMatches=True,
        ),
        case(
            "a stream that says nothing",
            "No event and a good status is no answer.",
            [],
            error=broken("incomplete"),
        ),
        case(
            "cut after started",
            "A good end without completed is a partial.",
            [[started(), attempt(1)]],
            error=broken("incomplete"),
        ),
        case(
            "cut in the text",
            "The same, in the middle; what stands can be read.",
            [[started(), attempt(1)], [delta(1, "Half an ans")]],
            error=broken("incomplete"),
            text="Half an ans",
        ),
        case(
            "failed with a good status",
            "completed says failed, and no status follows.",
            [[started(), attempt(1)], [delta(1, "Half")], [completed("Half", outcome="FAILED")]],
            error=broken("status_missing"),
            text="Half",
        ),
        case(
            "another text than was sent",
            "The digest is of another text: a delta was lost or folded wrongly.",
            [[started(), attempt(1)], [delta(1, "Hello")], [completed("Hello.")]],
            error=broken("digest_mismatch"),
            text="Hello",
            digestMatches=False,
        ),
        case(
            "no digest",
            "A digest that is missing does not match.",
            [
                [started(), attempt(1)],
                [delta(1, "a")],
                [{"completed": {"completion": {"outcome": "OUTCOME_ACCEPTED"}}}],
            ],
            error=broken("digest_mismatch"),
        ),
        case(
            "a digest in capitals",
            "Hex is lower case.",
            [[started(), attempt(1)], [delta(1, "a")], [completed(wrong=digest("a").upper())]],
            error=broken("digest_mismatch"),
        ),
        case(
            "a retract that was lost",
            "What was missed in the middle is found at the end.",
            [
                [started(), attempt(1)],
                [delta(1, "So, ")],
                [switch(), attempt(2, STRONG, "FALLBACK"), delta(2, "A gearbox.")],
                [completed("A gearbox.")],
            ],
            error=broken("digest_mismatch"),
            text="So, A gearbox.",
        ),
        case(
            "tool calls in another order",
            "The order of tool calls is part of the digest.",
            [
                [started(), attempt(1)],
                [delta(1, fragment(0, "{}", call_id="a", name="x"), fragment(1, "{}", call_id="b", name="y"))],
                [
                    {
                        "completed": {
                            "completion": {
                                "outcome": "OUTCOME_ACCEPTED",
                                "digest": digest(
                                    "",
                                    [
                                        {"id": "b", "name": "y", "arguments": "{}"},
                                        {"id": "a", "name": "x", "arguments": "{}"},
                                    ],
                                ),
                            },
                            "toolCalls": [
                                {"id": "a", "name": "x", "arguments": "{}"},
                                {"id": "b", "name": "y", "arguments": "{}"},
                            ],
                        }
                    }
                ],
            ],
            error=broken("digest_mismatch"),
        ),
    ]


def _breaches() -> list[Json]:
    """What breaks a rule at once; the client stops there, and what stood before it stands."""
    opening = [started(checkpoints="WINDOWS"), attempt(1)]
    standing = [delta(1, "a"), delta(2, " b"), delta(4, " c")]
    rows: list[tuple[str, str, list[Json], str]] = [
        ("a number repeated", "A delta's number is never used again.", [delta(4, "!")], "number_not_rising"),
        ("a number that falls", "Numbers rise over the whole stream.", [delta(3, "!")], "number_not_rising"),
        ("a number of zero", "Numbers begin at 1.", [delta(0, "!")], "number_not_rising"),
        ("a number that was taken back", "Retracting frees no number.", [retract(1), delta(4, "!")], "number_not_rising"),
        ("a checkpoint in a gap", "A checkpoint names a delta that is live.", [checkpoint(3)], "checkpoint_not_live"),
        ("a checkpoint to come", "A checkpoint never names what was not sent.", [checkpoint(5)], "checkpoint_not_live"),
        ("a checkpoint on what was taken back", "What was retracted is not live.", [retract(2), checkpoint(4)], "checkpoint_not_live"),
        ("a checkpoint of zero", "Nothing is no commitment.", [checkpoint(0)], "checkpoint_not_rising"),
        ("a checkpoint again", "Checkpoints strictly rise.", [checkpoint(2), checkpoint(2)], "checkpoint_not_rising"),
        ("a checkpoint that falls", "Checkpoints strictly rise.", [checkpoint(2), checkpoint(1)], "checkpoint_not_rising"),
        ("a retract behind a checkpoint", "What is committed is never taken back.", [checkpoint(2), retract(1)], "retract_behind_checkpoint"),
        ("a retract of all behind a checkpoint", "Not by zero either.", [checkpoint(2), retract(0)], "retract_behind_checkpoint"),
        ("a retract into a gap", "A retract names a live delta, or 0.", [retract(3)], "retract_not_live"),
        ("a retract to what is to come", "A retract never names what was not sent.", [retract(9)], "retract_not_live"),
        ("a retract to what was taken back", "What was retracted is not live.", [retract(2), delta(5, "d"), retract(4)], "retract_not_live"),
        ("started twice", "started comes once.", [started()], "started_twice"),
        ("an attempt again", "Attempts rise.", [attempt(1)], "attempt_not_rising"),
        ("an attempt of zero", "Attempts are numbered from 1.", [attempt(0)], "attempt_not_rising"),
    ]  # fmt: skip
    return [
        case(name, about, [opening, standing, [*events, delta(100, "never")]], error=broken(rule))
        for name, about, events, rule in rows
    ]


def _late_breaches() -> list[Json]:
    whole = [started(), attempt(1), delta(1, "a"), completed("a")]
    after: list[tuple[str, Json]] = [
        ("a delta", delta(2, "b")),
        ("a retract", retract(0)),
        ("a checkpoint", checkpoint(1)),
        ("completed", completed("a")),
        ("started", started()),
        ("an attempt", attempt(2)),
        ("a switch", switch()),
        ("an unknown kind", {}),
    ]
    before: list[tuple[str, Json]] = [
        ("a delta", delta(1, "b")),
        ("an attempt", attempt(1)),
        ("completed", completed("")),
        ("a switch", switch()),
        ("an unknown kind", {}),
    ]
    return [
        *(
            case(
                f"{name} after completed",
                "Nothing follows completed.",
                [whole, [event]] if at % 2 else [[*whole, event]],
                error=broken("after_completed"),
                text="a",
                completed=True,
            )
            for at, (name, event) in enumerate(after)
        ),
        *(
            case(
                f"{name} before started",
                "started is first.",
                [[event, started()]],
                error=broken("before_started"),
                text="",
            )
            for name, event in before
        ),
        case(
            "a rule broken, and a status",
            "A broken rule is raised where it is broken, whatever comes after.",
            [[started(), attempt(1), delta(1, "a")], [delta(1, "b")]],
            status=exhausted()["status"],
            error=broken("number_not_rising"),
            text="a",
        ),
    ]
