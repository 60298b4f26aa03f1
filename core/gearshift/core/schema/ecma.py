r"""Regular expressions of ECMA-262, translated to those of RE2.

Rules: a pattern means what ECMA-262 says in Unicode mode: `$` is the very end,
`\d` and `\w` are ASCII, `\s` is Unicode's, `.` is no line end. Look-around and
back-references cannot be matched in linear time and are refused by name.
"""

import re
from typing import Final

from gearshift.core.schema import unicode_names as names

MAX_CHARS: Final = 8 * 1024
_MAX_REPEAT: Final = 1000  # RE2's own bound; larger counts are written as several
_MAX_TOTAL_REPEAT: Final = 5_000  # compiling takes time by the square of it: 28 ms
_ESCAPES: Final = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_CLASSES: Final = {
    "d": names.DIGIT,
    "D": names.NOT_DIGIT,
    "w": names.WORD,
    "W": names.NOT_WORD,
    "s": names.SPACE,
    "S": names.NOT_SPACE,
}
_LOOK_AROUND: Final = {
    "(?=": "look-ahead (?=",
    "(?!": "negative look-ahead (?!",
    "(?<=": "look-behind (?<=",
    "(?<!": "negative look-behind (?<!",
}
_COUNT: Final = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_GROUP_NAME: Final = re.compile(r"\(\?<[A-Za-z_$][\w$]*>")
_PLAIN_GROUP: Final = re.compile(r"\(\?(?:-?i)?:")
_HEX4: Final = re.compile(r"u([0-9A-Fa-f]{4})")
_LOW_SURROGATE: Final = re.compile(r"\\u([dD][c-fC-F][0-9A-Fa-f]{2})")
_HEX_LONG: Final = re.compile(r"u\{([0-9A-Fa-f]{1,6})\}")
_HEX2: Final = re.compile(r"x([0-9A-Fa-f]{2})")
_PROPERTY: Final = re.compile(r"([pP])\{(?:(\w+)=)?(\w+)\}")


class PatternError(Exception):
    """Raised when a regular expression is not valid, or cannot be matched in linear time."""


def translate(source: str) -> str:
    """Return the RE2 expression that matches what the ECMA-262 expression source does.

    Raises:
        PatternError: source is not valid, or uses look-around or a back-reference.

    """
    return Translation(source).run()


class Translation:
    """One pass over an expression, from left to right."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.out: list[str] = []
        self.opened: list[int] = []  # where each open group begins in `out`
        self.last: int | None = None  # where the last thing that can be repeated begins in `out`
        self.repeats = 0

    def run(self) -> str:
        """Return the whole expression as RE2 wants it; errors are those of `translate`."""
        source = self.source
        if len(source) > MAX_CHARS:
            raise PatternError(f"a pattern has more than {MAX_CHARS} characters")
        while self.at < len(source):
            char = source[self.at]
            if char == "(":
                self._open()
            elif char == ")":
                self._close()
            elif char == "|":
                self._emit("|", repeatable=False)
            elif char in "*+?":
                self._repeat(char, self.at + 1)
            elif char == "{" and (count := _COUNT.match(source, self.at)) is not None:
                self._count(count)
            elif char == "[":
                self._class()
            elif char == "\\":
                self._escape()
            elif char in "^$":
                self._emit(r"\A" if char == "^" else r"\z", repeatable=False)
            elif char == ".":
                self._emit(names.NOT_LINE_END)
            else:
                self._emit(_literal(ord(char)))
        if self.opened:
            raise self._error("has a group that is not closed")
        return "".join(self.out)

    def _emit(self, text: str, *, width: int = 1, repeatable: bool = True) -> None:
        self.last = len(self.out) if repeatable else None
        self.out.append(text)
        self.at += width

    def _open(self) -> None:
        source = self.source
        opening, width = "(?:", 1
        if source.startswith("(?", self.at):
            for mark, name in _LOOK_AROUND.items():
                if source.startswith(mark, self.at):
                    raise self._error(f"uses {name}…), and look-around cannot be matched in linear time")
            if (group := _GROUP_NAME.match(source, self.at)) is not None:
                width = group.end() - self.at
            elif (flags := _PLAIN_GROUP.match(source, self.at)) is not None:
                opening, width = flags[0], flags.end() - self.at
            else:
                raise self._error(f"has the group {source[self.at : self.at + 4]}, which ECMA-262 does not know")
        self.opened.append(len(self.out))
        self._emit(opening, width=width, repeatable=False)

    def _close(self) -> None:
        if not self.opened:
            raise self._error("closes a group that is not open")
        start = self.opened.pop()
        self._emit(")")
        self.last = start

    def _repeat(self, mark: str, end: int) -> None:
        if self.last is None:
            raise self._error(f"has {mark} with nothing to repeat")
        lazy = self.source.startswith("?", end)
        self.out.append(mark)  # whether there is a match does not depend on laziness
        self.at = end + 1 if lazy else end
        self.last = None

    def _count(self, count: re.Match[str]) -> None:
        if self.last is None:
            raise self._error(f"has {count[0]} with nothing to repeat")
        if len(count[1]) > 6 or len(count[3] or "") > 6:
            raise self._error(f"repeats too often: {count[0][:20]}")
        low = int(count[1])
        high = low if count[2] is None else int(count[3]) if count[3] else None
        if high is not None and high < low:
            raise self._error(f"has its count out of order: {count[0]}")
        self.repeats += max(low, high or 0)
        if self.repeats > _MAX_TOTAL_REPEAT:
            raise self._error(f"repeats more than {_MAX_TOTAL_REPEAT} times")
        atom = "".join(self.out[self.last :])
        del self.out[self.last :]
        self.out.append(_repeated(atom, low, high))
        self.at = count.end() + (1 if self.source.startswith("?", count.end()) else 0)
        self.last = None

    def _escape(self) -> None:
        char = self.source[self.at + 1 : self.at + 2]
        if char in ("b", "B"):
            self._emit("\\" + char, width=2, repeatable=False)
        elif char == "k" or (char in "123456789" and char):
            name = self.source[self.at : self.at + 12] if char == "k" else f"\\{char}"
            raise self._error(f"uses the back-reference {name}, which cannot be matched in linear time")
        else:
            text, width, is_set = self._atom_escape()
            self._emit(f"[{text}]" if is_set else text, width=width)

    def _atom_escape(self) -> tuple[str, int, bool]:
        """Return the escape at the cursor as RE2 text, its width in the source, and whether it is a set."""
        source, start = self.source, self.at + 1
        char = source[start : start + 1]
        if char in _CLASSES and char:
            return _CLASSES[char], 2, True
        if char in ("p", "P"):
            if (prop := _PROPERTY.match(source, start)) is None:
                raise self._error(f"has a bad property escape \\{source[start : start + 10]}")
            return self._property(prop), prop.end() - self.at, True
        if char == "0" and source[start + 1 : start + 2].isdigit():
            raise self._error("has an octal escape, which ECMA-262 does not know")
        if char in _ESCAPES and char:
            return _literal(_ESCAPES[char]), 2, False
        if char == "c" and (letter := source[start + 1 : start + 2]).isascii() and letter.isalpha():
            return _literal(ord(letter) % 32), 3, False
        if char == "x" and (code := _HEX2.match(source, start)) is not None:
            return _literal(int(code[1], 16)), 4, False
        if char == "u":
            return self._unicode(start)
        if not char or (char.isalnum() and char.isascii()):
            raise self._error(f"has the escape \\{char}, which ECMA-262 does not know")
        return _literal(ord(char)), 2, False

    def _unicode(self, start: int) -> tuple[str, int, bool]:
        if (code := _HEX_LONG.match(self.source, start)) is not None and int(code[1], 16) <= 0x10FFFF:
            return _literal(int(code[1], 16)), code.end() - self.at, False
        if (code := _HEX4.match(self.source, start)) is None:
            raise self._error(f"has a bad escape \\{self.source[start : start + 5]}")
        point = int(code[1], 16)
        if 0xD800 <= point < 0xDC00 and (low := _LOW_SURROGATE.match(self.source, code.end())) is not None:
            return _literal(0x10000 + ((point - 0xD800) << 10) + int(low[1], 16) - 0xDC00), low.end() - self.at, False
        return _literal(point), code.end() - self.at, False

    def _property(self, prop: re.Match[str]) -> str:
        negated, kind, value = prop[1] == "P", prop[2], prop[3]
        if kind is None and value in names.BINARY:
            table = names.NOT_BINARY if negated else names.BINARY
            if value in table:
                return table[value]
        known = None
        if kind in (None, "General_Category", "gc"):
            known = names.CATEGORIES.get(value)
        elif kind in ("Script", "sc", "Script_Extensions", "scx"):
            known = names.SCRIPTS.get(value)
        if known is None:
            raise self._error(f"has the property \\{prop[0]}, which is not known here")
        return f"\\{prop[1]}{{{known}}}"

    def _class(self) -> None:
        source = self.source
        start = self.at
        self.at += 1
        negated = source.startswith("^", self.at)
        if negated:
            self.at += 1
        parts: list[str] = []
        while True:
            if self.at >= len(source):
                raise self._error("has a class that is not closed")
            if source[self.at] == "]":
                break
            text, is_set = self._class_item()
            if source.startswith("-", self.at) and not source.startswith("-]", self.at) and not is_set:
                before = self.at
                self.at += 1
                if self.at < len(source):
                    upper, upper_is_set = self._class_item()
                    if not upper_is_set:
                        parts.append(f"{text}-{upper}")
                        continue
                self.at = before
            parts.append(text)
        width = self.at + 1 - start
        self.at = start
        body = "".join(parts)
        if not body:
            self._emit(f"[{names.ANY}]" if negated else f"[^{names.ANY}]", width=width)
        else:
            self._emit(f"[^{body}]" if negated else f"[{body}]", width=width)

    def _class_item(self) -> tuple[str, bool]:
        char = self.source[self.at]
        if char != "\\":
            self.at += 1
            return _literal(ord(char)), False
        if self.source[self.at + 1 : self.at + 2] == "b":
            self.at += 2
            return _literal(8), False
        if self.source[self.at + 1 : self.at + 2] == "-":
            self.at += 2
            return _literal(ord("-")), False
        text, width, is_set = self._atom_escape()
        self.at += width
        return text, is_set

    def _error(self, problem: str) -> PatternError:
        return PatternError(f"the pattern {quoted_pattern(self.source)} {problem}")


def _literal(point: int) -> str:
    char = chr(point)
    return char if char.isascii() and char.isalnum() else f"\\x{{{point:x}}}"


def _repeated(atom: str, low: int, high: int | None) -> str:
    if low <= _MAX_REPEAT and (high is None or high <= _MAX_REPEAT):
        return f"{atom}{{{low}}}" if high == low else f"{atom}{{{low},{'' if high is None else high}}}"
    parts = [atom + f"{{{min(_MAX_REPEAT, low - done)}}}" for done in range(0, low, _MAX_REPEAT)]
    if high is None:
        parts.append(f"{atom}*")
    else:
        parts += [f"{atom}{{0,{min(_MAX_REPEAT, high - low - done)}}}" for done in range(0, high - low, _MAX_REPEAT)]
    return f"(?:{''.join(parts)})"


def quoted_pattern(source: str) -> str:
    """Return source in quotes, cut to a readable length."""
    return f'"{source[:60]}…"' if len(source) > 60 else f'"{source}"'
