"""Read strict JSON piece by piece.

Rules: the same texts are refused as by `parse_document`, at the first character that
no JSON text has there, however the text is cut. Runs of plain characters go by
regular expression, not one by one. Only what is not finished is held: a number, the
start of an escape, a string that somebody needs whole. A number ends with the
character after it.
"""

import json
from typing import Any

from gearshift.core.schema.document import MAX_NUMBER_CHARS
from gearshift.core.schema.issue import child_pointer
from gearshift.core.schema.streaming.issue import JSON, Stop, StreamIssue
from gearshift.core.schema.streaming.judge import Judge
from gearshift.core.schema.streaming.lexis import (
    AFTER,
    COLON,
    DIGITS,
    DONE,
    FIRST_ITEM,
    FIRST_KEY,
    KEY,
    KEY_STRING,
    LITERAL,
    LITERALS,
    NUMBER,
    STRING,
    VALUE,
    WANTED,
    WHOLE_ESCAPE,
    WHOLE_NUMBER,
    match_escape,
    match_number,
    match_run,
    match_space,
)


class Reader:
    """The text's side of one document."""

    __slots__ = (
        "_at",
        "_depth",
        "_escapes",
        "_fresh",
        "_held",
        "_judge",
        "_literal",
        "_max_depth",
        "_opened",
        "_parts",
        "_state",
    )

    def __init__(self, judge: Judge, max_depth: int) -> None:
        self._judge = judge
        self._max_depth = max_depth
        self._depth = 0
        self._state = VALUE
        self._at = 0
        """Characters read before the text that is being read."""
        self._held: str = ""
        """The start of an escape or a number, or what is left of a literal."""
        self._literal: tuple[str, type, Any] = LITERALS["n"]
        self._opened = 0
        """Where the string that is open begins, after its quote."""
        self._parts: list[str] | None = None
        """The characters of the string that is open, if they are needed."""
        self._fresh = 0
        """How many parts the judge has seen."""
        self._escapes: list[tuple[int, int]] = []
        """The index of each escape in the string that is open, and how many characters more it takes than it means."""

    @property
    def is_done(self) -> bool:
        """Whether the document has ended; a number alone has not before `finish`."""
        return self._state == DONE

    def read(self, text: str) -> StreamIssue | None:
        """Take the next characters; return what stops the document, if anything does."""
        if self._state in (STRING, KEY_STRING):
            if self._parts is None and not self._held and match_run(text, 0).end() == len(text):
                self._at += len(text)  # the common case: the middle of a text that only has to be a string
                return None
            if self._held:
                text = self._held + text
                self._held = ""
        pos, end = 0, len(text)
        judge = self._judge
        try:
            while pos < end:
                state = self._state
                if state == STRING or state == KEY_STRING:
                    stop = match_run(text, pos).end()
                    if stop > pos and self._parts is not None:
                        self._parts.append(text[pos:stop])
                    pos = stop
                    if pos == end:
                        break
                    char = text[pos]
                    if char == '"':
                        self._end_string()
                        pos += 1
                    elif char == "\\":
                        stop = match_escape(text, pos).end()
                        if WHOLE_ESCAPE.fullmatch(text, pos, stop) is not None:
                            self._take_escape(text[pos:stop])
                            pos = stop
                        elif stop == end:
                            self._held = text[pos:]
                            break
                        else:
                            pos = stop
                            raise Stop(JSON, "not a valid escape, or half of a surrogate pair")
                    else:
                        raise Stop(JSON, "a character that a string must not hold as it is")
                    continue
                if state == NUMBER:
                    held = len(self._held)
                    if held:  # as if the whole number came now; it is short
                        whole = self._held + text[pos : pos + MAX_NUMBER_CHARS + 1]
                        length = match_number(whole, 0).end()
                        self._held = whole[:length]
                    else:
                        length = match_number(text, pos).end() - pos
                        self._held = text[pos : pos + length]
                    if length > MAX_NUMBER_CHARS:
                        pos += MAX_NUMBER_CHARS - held
                        raise Stop(JSON, f"a number has more than {MAX_NUMBER_CHARS} characters")
                    pos += length - held
                    if pos < end:
                        self._end_number()
                    continue
                if state == LITERAL:
                    if text[pos] != self._held[0]:
                        raise Stop(JSON, f"expected {self._literal[0]}")
                    if len(self._held) == 1:
                        self._end_literal()
                    else:
                        self._held = self._held[1:]
                    pos += 1
                    continue
                char = text[pos]
                if char in " \t\n\r":
                    pos = match_space(text, pos).end()
                    continue
                if state == AFTER:
                    frame = judge.frame
                    assert frame is not None
                    if char == ",":
                        self._state = KEY if frame.is_object else VALUE
                    elif char == ("}" if frame.is_object else "]"):
                        self._close()
                    else:
                        raise Stop(JSON, f"expected a comma or {'}' if frame.is_object else ']'}")
                    pos += 1
                elif state == COLON:
                    if char != ":":
                        raise Stop(JSON, "expected a colon")
                    self._state = VALUE
                    pos += 1
                elif state == KEY or state == FIRST_KEY:
                    if char == '"':
                        judge.key_begins()
                        self._state = KEY_STRING
                        self._open_string(pos + 1, True)
                    elif char == "}" and state == FIRST_KEY:
                        self._close()
                    else:
                        raise Stop(JSON, f"expected {WANTED[state]}")
                    pos += 1
                elif state == DONE:
                    raise Stop(JSON, "text after the document")
                elif char == '"':
                    judge.begin(str)
                    self._state = STRING
                    self._open_string(pos + 1, judge.keeps_text)
                    pos += 1
                elif char == "{" or char == "[":
                    self._open(char == "{")
                    pos += 1
                elif char == "]" and state == FIRST_ITEM:
                    self._close()
                    pos += 1
                elif char in DIGITS:
                    judge.begin(float)
                    self._state = NUMBER
                    self._held = ""
                elif char in LITERALS:
                    self._literal = LITERALS[char]
                    judge.begin(self._literal[1])
                    self._state = LITERAL
                    self._held = self._literal[0]
                else:
                    raise Stop(JSON, f"expected {WANTED[state]}")
            if self._parts is not None:
                self._show_part()
        except Stop as stop:
            return self._issue(stop, pos)
        self._at += end - len(self._held) if self._state in (STRING, KEY_STRING) else end
        return None

    def finish(self) -> StreamIssue | None:
        """Take note that nothing more comes; return what is wrong with that."""
        try:
            if self._state == NUMBER:
                self._end_number()
            if self._state != DONE:
                raise Stop(JSON, f"ends too early: expected {WANTED.get(self._state, 'a comma or a closing bracket')}")
        except Stop as stop:
            return self._issue(stop, len(self._held) if self._state in (STRING, KEY_STRING) else 0)
        return None

    # Arrays and objects

    def _open(self, is_object: bool) -> None:
        self._judge.begin(dict if is_object else list)
        self._depth += 1
        if self._depth > self._max_depth:
            raise Stop(JSON, f"nested deeper than {self._max_depth}")
        self._judge.open(is_object)
        self._state = FIRST_KEY if is_object else FIRST_ITEM

    def _close(self) -> None:
        self._depth -= 1
        self._judge.close()
        self._state = AFTER if self._depth else DONE

    # Strings

    def _open_string(self, start: int, keeps: bool) -> None:
        self._opened = self._at + start
        self._parts = [] if keeps else None
        self._fresh = 0
        if self._escapes:
            self._escapes = []

    def _take_escape(self, escape: str) -> None:
        if self._parts is not None:
            self._escapes.append((sum(map(len, self._parts)), len(escape) - 1))
            self._parts.append(json.loads(f'"{escape}"'))

    def _show_part(self) -> None:
        """Show the judge what came of a string that goes on in the next text."""
        judge, parts = self._judge, self._parts
        assert parts is not None
        if self._state == STRING:
            if not judge.has_text_rules:
                return
            show = judge.text
        elif self._state == KEY_STRING and judge.has_key_rules:
            show = judge.key_text
        else:
            return
        if self._fresh < len(parts):
            piece = "".join(parts[self._fresh :])
            self._fresh = len(parts)
            show(piece)

    def _end_string(self) -> None:
        judge, parts = self._judge, self._parts
        value = "" if parts is None else parts[0] if len(parts) == 1 else "".join(parts)
        if self._state == KEY_STRING:
            frame = judge.frame
            assert frame is not None
            is_known = value in frame.names
            judge.key(value)
            if is_known:
                raise Stop(JSON, f"duplicate key {json.dumps(value[:60], ensure_ascii=False)}")
            self._state = COLON
        else:
            judge.end(value)
            self._state = AFTER if self._depth else DONE
        self._parts = None

    def _place(self, index: int) -> int:
        """Return where in the document the character of the open string stands; of an escape, its last."""
        return self._opened + index + sum(more for at, more in self._escapes if at <= index)

    # Numbers and literals

    def _end_number(self) -> None:
        text = self._held
        if WHOLE_NUMBER.fullmatch(text) is None:
            raise Stop(JSON, "not a number")
        value: int | float
        if text.lstrip("-").isdigit():
            value = int(text)
        else:
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise Stop(JSON, f"number out of range: {text[:40]}")
        self._held = ""
        self._state = AFTER if self._depth else DONE
        self._judge.end(value)

    def _end_literal(self) -> None:
        self._held = ""
        self._state = AFTER if self._depth else DONE
        self._judge.end(self._literal[2])

    def _issue(self, stop: Stop, pos: int) -> StreamIssue:
        steps: list[str] = []
        frame = self._judge.frame
        while frame is not None:
            if frame.key is not None:
                steps.append(frame.key)
            frame = frame.parent
        pointer = ""
        for step in reversed(steps):
            pointer = child_pointer(pointer, step)
        offset = self._at + pos if stop.index is None else self._place(stop.index)
        return StreamIssue(pointer, stop.keyword, stop.message, offset)
