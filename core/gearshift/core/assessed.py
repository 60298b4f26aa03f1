"""Attempts that ask a model for more than the call does: how sure it is, or to mend its document.

Rules: what is asked stands behind the cache breakpoint, so that the static prefix stays what it is. The model's word is
taken out before anything reads the answer; its tokens are used and paid like all others.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from gearshift.core.attempt import Attempt
from gearshift.core.confidence.assessment import ASK, LINE_TOKENS, NOT_SAID, is_told_otherwise
from gearshift.core.provider import ProviderCall
from gearshift.core.request import Message, Parameters, Text
from gearshift.core.words import AttemptRole, Role


class AssessedAttempt(Attempt):
    """An attempt whose model is asked to say how sure it is, but for second looks, which tell by agreement."""

    @property
    def _asks(self) -> bool:
        output, model = self._call.resolved.output, self.step.planned.stage.model
        return (
            self.step.role is AttemptRole.ANSWER and not self.prefix and not is_told_otherwise(output, model.features)
        )

    def _provider_call(self) -> ProviderCall:
        made = super()._provider_call()
        if not self._asks:
            return made
        self.stated = NOT_SAID
        before = "\n\n" if made.system_static or made.system_dynamic else ""
        return replace(made, system_dynamic=f"{made.system_dynamic}{before}{ASK}")

    def _parameters(self) -> Parameters:
        parameters = super()._parameters()
        limit = parameters.max_tokens
        # A cap on cost is kept as it is: then the line is what may be cut off.
        if limit is None or self.step.left_usd is not None or not self._asks:
            return parameters
        return structs.replace(parameters, max_tokens=limit + LINE_TOKENS)

    def settle(self) -> None:
        """Take the model's word out of its answer, and settle."""
        if self.stated is not None:
            self.stated = self.transcript.take_word()
        super().settle()


class MendedAttempt(Attempt):
    """An attempt that shows the model its own document and what is wrong with it."""

    complaint = ""
    document = ""

    def _messages(self) -> tuple[Message, ...]:
        return (
            *super()._messages(),
            Message(role=Role.ASSISTANT, parts=(Text(self.document),)),
            Message(role=Role.USER, parts=(Text(self.complaint),)),
        )
