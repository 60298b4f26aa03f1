"""A JSON document checked against its schema while it is being written.

Rules: it stops at the first character where one assertion is irrevocably false and
this reaches the root by three-valued logic, and never stops a document that still has
a valid completion. A complete document gets the verdict of `parse_document` and
`Schema.is_valid`. Where the text is cut into pieces makes no difference.
"""

from gearshift.core.schema.document import MAX_DEPTH
from gearshift.core.schema.errors import CheckLimitError
from gearshift.core.schema.limits import DEFAULT_LIMITS
from gearshift.core.schema.schema import Schema
from gearshift.core.schema.streaming.issue import StreamIssue
from gearshift.core.schema.streaming.judge import Judge
from gearshift.core.schema.streaming.reader import Reader


class StreamChecker:
    """One document on its way. Not for several tasks at once; its schema may be shared.

    The text must be the document alone: `FenceFilter` takes off what a model writes around it.

    ```python
    checker, bare = StreamChecker(schema), FenceFilter()
    for chunk in chunks:
        if (issue := checker.feed(bare.feed(chunk))) is not None and not bare.gave_up:
            return stop(issue)
    issue = checker.feed(bare.finish()) or checker.finish()
    if checker.gave_up or bare.gave_up:
        ...  # says nothing: the gate on the whole answer decides
    ```
    """

    __slots__ = ("_gave_up", "_issue", "_reader")

    def __init__(self, schema: Schema | None, *, work: int | None = None, max_depth: int = MAX_DEPTH) -> None:
        """Start before the first character.

        Args:
            schema: what the document must be; None asks for strict JSON only.
            work: most steps, as in `SchemaLimits.work`, which is the default.
            max_depth: most arrays and objects nested in each other, as for `parse_document`.

        """
        limits = DEFAULT_LIMITS if schema is None else schema.limits
        self._reader = Reader(Judge(schema, limits.work if work is None else work), max_depth)
        self._issue: StreamIssue | None = None
        self._gave_up = False

    @property
    def gave_up(self) -> bool:
        """Whether checking took more work than the limit allows; then nothing more is said."""
        return self._gave_up

    @property
    def is_done(self) -> bool:
        """Whether the document has ended and is valid, so that only white space may follow.

        A number that is the whole document ends with `finish`.
        """
        return self._reader.is_done and self._issue is None and not self._gave_up

    def feed(self, text: str) -> StreamIssue | None:
        """Take the next characters, any number of them.

        Returns what makes the document irrevocably invalid, or None while that is not known; once there is an
        issue, the same for ever.
        """
        if self._issue is None and not self._gave_up:
            try:
                self._issue = self._reader.read(text)
            except (CheckLimitError, RecursionError):
                self._gave_up = True
        return self._issue

    def finish(self) -> StreamIssue | None:
        """Take note that the document is complete; return what is wrong with it, or None.

        None means that it is valid, unless the checker gave up.
        """
        if self._issue is None and not self._gave_up:
            try:
                self._issue = self._reader.finish()
            except (CheckLimitError, RecursionError):
                self._gave_up = True
        return self._issue
