"""Take the JSON out of what a model writes around it, while it is being written.

Rules: what comes out, joined, is what `strip_fence` makes of the whole text, or the
filter gave up. It lets text through as soon as it is clear where the document begins:

1. after the line of an opening code fence, whatever prose stood before it: at once, but
   for what may be the closing fence. Nothing that follows can change which part is meant.
2. a text that begins with `{` or `[` and goes on like JSON, or with a quote: at once.
   `strip_fence` would still prefer a fenced block that followed; whoever cannot accept
   that a document is judged before such a second one appears sets `trusts_bare=False`.
3. everything else (prose without a fence yet, a fence in the middle of a line, a bare
   number) is held: until a fence opens, or to the end, where `strip_fence` decides.

Where more fences or brackets than expected follow, the text passed through is not what
was meant: the filter gives up and the gate on the whole answer decides.
"""

import re
from typing import Final

from gearshift.core.schema.fence import FENCE_LINE, strip_fence

_MAX_LINE: Final = 1_000
"""Characters of a line that may be a fence after which the filter gives up; no model writes one."""
_MAYBE_FENCE: Final = re.compile(r"[ \t]{0,3}(?:`{0,2}|~{0,2}|(?:`{3,}|~{3,})[ \t]*(?:[\w+-]+[ \t]*)?\r?)")
_LIKE_JSON: Final = re.compile(r"""\{[ \t\r\n]*["}]|\[[ \t\r\n]*["{\[\]\-0-9tfn]""")
_MAYBE_JSON: Final = re.compile(r"[\[{][ \t\r\n]*")
_OUTSIDE: Final = re.compile(r'["\[\]{}]')
_INSIDE: Final = re.compile(r'["\\]')

_HOLD: Final = 0
_FENCED: Final = 1
_BARE: Final = 2
_QUOTED: Final = 3
_AFTER: Final = 4


class FenceFilter:
    """One answer on its way to the checker."""

    __slots__ = (
        "_depth",
        "_escaped",
        "_gave_up",
        "_held",
        "_in_string",
        "_line",
        "_marker",
        "_mode",
        "_spaces",
        "_started",
        "_trusts_bare",
    )

    def __init__(self, *, trusts_bare: bool = True) -> None:
        """Start before the first character.

        Args:
            trusts_bare: let a document through that begins without a fence, case 2 above.

        """
        self._trusts_bare = trusts_bare
        self._mode = _HOLD
        self._started = False
        """Whether something else than white space has come."""
        self._gave_up = False
        self._held: list[str] = []
        """The text so far, while nothing is clear."""
        self._line: str | None = None
        """The line so far while it may be a fence; None once it is not."""
        self._marker = ""
        self._spaces: list[str] = []
        """White space that counts only if something follows."""
        self._depth = 0
        self._in_string = False
        self._escaped = False

    @property
    def gave_up(self) -> bool:
        """Whether it is not clear which part of the text is meant, so that what came out says nothing."""
        return self._gave_up

    @property
    def is_committed(self) -> bool:
        """Whether the document has begun to come out."""
        return self._mode != _HOLD

    def feed(self, text: str) -> str:
        """Take the next characters of the raw text; return those of the document that are certain now."""
        if self._gave_up:
            return ""
        if self._mode == _HOLD:
            return self._hold(text)
        return self._pass_on(text)

    def finish(self) -> str:
        """Take note that nothing more comes; return the rest of the document."""
        if self._gave_up:
            return ""
        if self._mode == _HOLD:
            return strip_fence("".join(self._held))
        line, self._line = self._line, None
        is_fence = line is not None and FENCE_LINE.match(line.rstrip()) is not None
        if self._mode == _FENCED:
            # It ends well only with the closing fence as its last line.
            if not is_fence or not self._closes(line or ""):
                self._gave_up = True
            return ""
        if is_fence:
            self._gave_up = True
            return ""
        if not line or self._mode == _AFTER:
            return ""
        return line.rstrip() if self._mode == _BARE else self._visible(line)

    # Before the document

    def _hold(self, text: str) -> str:
        if not self._started:
            text = self._beginning(text)
            if not text or self._mode != _HOLD:
                return text
        else:
            self._held.append(text)
        fence, rest = self._next_fence(text)
        if fence is None:
            return ""
        self._marker = fence[1]
        self._line = ""
        return self._commit(_FENCED, rest)

    def _beginning(self, text: str) -> str:
        """Tell by its first characters how the text goes on; return what of it is to be read on."""
        if not text:
            return ""
        if not self._held:
            # Only as the very first character is a byte order mark removed; the space keeps it where it is not.
            text = text.removeprefix("\ufeff")
            self._held = [" "]
        elif len(self._held) > 1:
            text = self._held.pop() + text
        whole = text.lstrip()
        if not whole:
            return ""
        self._held.append(whole)
        if whole[0] in "{[":
            if _LIKE_JSON.match(whole) is not None:
                if self._trusts_bare:
                    return self._commit(_BARE, whole)
            elif len(whole) < _MAX_LINE and _MAYBE_JSON.fullmatch(whole) is not None:
                return ""
        elif whole[0] == '"' and self._trusts_bare:
            return self._commit(_QUOTED, whole)
        self._started = True
        self._line = ""
        return whole

    def _commit(self, mode: int, text: str) -> str:
        self._mode = mode
        self._started = False
        self._held = []
        return self._pass_on(text)

    def _next_fence(self, text: str) -> tuple[re.Match[str] | None, str]:
        """Return the first whole fence line, and the text after it; notes the line that is open."""
        lines = text.split("\n")
        for index, part in enumerate(lines):
            line = None if self._line is None else self._line + part
            if index == len(lines) - 1:
                self._line = line if line is None or _MAYBE_FENCE.fullmatch(line.rstrip()) is not None else None
                if self._line is not None and len(self._line) > _MAX_LINE:
                    self._gave_up = True
                break
            # After the document any white space may end the line, since only white space may follow it.
            bare = line.rstrip() if line and self._mode == _AFTER else line
            fence = None if bare is None else FENCE_LINE.match(bare)
            self._line = ""
            if fence is not None:
                return fence, "\n".join(lines[index + 1 :])
        return None, ""

    # Within and after the document

    def _pass_on(self, text: str) -> str:
        out: list[str] = []
        lines = text.split("\n")
        for index, part in enumerate(lines):
            is_last = index == len(lines) - 1
            line = None if self._line is None else self._line + part
            if self._mode == _AFTER:
                self._pass_over("\n".join(lines[index:]))
                break
            if line is None:
                self._line = None if is_last else ""
                self._take(part if is_last else f"{part}\n", out)
            elif is_last and _MAYBE_FENCE.fullmatch(line) is not None:
                self._line = line
                self._gave_up = len(line) > _MAX_LINE
            elif is_last or FENCE_LINE.match(line) is None:
                self._line = None if is_last else ""
                self._take(line if is_last else f"{line}\n", out)
            elif self._mode == _FENCED and self._closes(line):
                self._mode = _AFTER
                self._line = ""
            else:
                self._gave_up = True
            if self._gave_up:
                break
        return "".join(out)

    def _pass_over(self, text: str) -> None:
        """Look through what follows the document for a reason to give up."""
        fence, _ = self._next_fence(text)
        if fence is not None or (not self._marker and ("{" in text or "[" in text)):
            self._gave_up = True

    def _closes(self, line: str) -> bool:
        fence = FENCE_LINE.match(line.rstrip())
        return fence is not None and not fence[2] and fence[1] == self._marker

    def _take(self, piece: str, out: list[str]) -> None:
        """Pass on a piece that is no fence, as far as the document goes."""
        if self._mode != _BARE:
            out.append(self._visible(piece))
            return
        end = self._end_in(piece)
        if end < 0:
            out.append(piece)
            return
        out.append(piece[:end])
        self._mode = _AFTER
        self._gave_up = "{" in piece[end:] or "[" in piece[end:]

    def _visible(self, piece: str) -> str:
        """Return piece with the white space held before, without what white space ends it."""
        if not self._started:
            piece = piece.lstrip()
        bare = piece.rstrip()
        if not bare:
            if self._started:
                self._spaces.append(piece)
            return ""
        self._started = True
        before = "".join(self._spaces)
        self._spaces = [piece[len(bare) :]]
        return before + bare

    def _end_in(self, piece: str) -> int:
        """Return where in piece the outermost bracket closes, or -1."""
        at = 0
        if self._escaped and piece:
            self._escaped, at = False, 1
        while True:
            found = (_INSIDE if self._in_string else _OUTSIDE).search(piece, at)
            if found is None:
                return -1
            mark, at = found[0], found.end()
            if mark == '"':
                self._in_string = not self._in_string
            elif mark == "\\":
                if at == len(piece):
                    self._escaped = True
                    return -1
                at += 1
            elif mark in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return at
