"""How a trace may call a model.

Rules: pure. The first of these that a trace has counts: `provider/model` with the catalogue's name, the same with the name
on the wire, and either of the models alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gearshift.core.blueprint import Blueprint
from gearshift.server.replay.trace import Call, Recorded


class Names:
    """The models of a configuration and what traces call them."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._by_id: Final[dict[tuple[str, str], tuple[str, ...]]] = {}
        self._by_wire: Final[dict[tuple[str, str], tuple[str, ...]]] = {}
        for chain in blueprint.chains.values():
            for stage in chain.stages:
                provider, model = stage.provider.name, stage.model
                spelled = (f"{provider}/{model.id}", f"{provider}/{model.wire_id}", model.id, model.wire_id)
                self._by_id[provider, model.id] = spelled
                self._by_wire[provider, model.wire_id] = spelled

    def of_wire(self, call: Call, provider: str, wire_id: str) -> Recorded | None:
        """Give what a call's trace has of a model, by its name on the wire."""
        return _first(call.answers, self._by_wire.get((provider, wire_id), ()))

    def of_model(self, call: Call, provider: str, model: str) -> Recorded | None:
        """Give what a call's trace has of a model, by its catalogue name."""
        return _first(call.answers, self._by_id.get((provider, model), ()))

    def known(self) -> frozenset[str]:
        """Give every name that a trace may use."""
        return frozenset(name for names in self._by_id.values() for name in names)


def _first(answers: Mapping[str, Recorded], names: Iterable[str]) -> Recorded | None:
    return next((answers[name] for name in names if name in answers), None)
