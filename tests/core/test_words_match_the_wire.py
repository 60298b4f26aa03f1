"""The numbers of core/words.py are those of the contract, so that translation is the identity."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import EnumDescriptor

from gearshift.core import words
from gearshift.v1 import answer_pb2, call_pb2, ops_pb2, router_pb2, stream_pb2, task_pb2

_FILES = (answer_pb2, call_pb2, ops_pb2, router_pb2, stream_pb2, task_pb2)
_WIRE: dict[str, EnumDescriptor] = {
    name: descriptor for module in _FILES for name, descriptor in module.DESCRIPTOR.enum_types_by_name.items()
}
_OURS = {
    name: kind
    for name, kind in vars(words).items()
    if isinstance(kind, type) and issubclass(kind, words.WordEnum) and kind is not words.WordEnum
}


def _prefix(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() + "_"


@pytest.mark.parametrize("name", sorted(_OURS))
def test_each_enumeration_is_on_the_wire(name: str) -> None:
    assert name in _WIRE


@pytest.mark.parametrize("name", sorted(_WIRE))
def test_numbers_and_names_are_those_of_the_wire(name: str) -> None:
    descriptor, prefix = _WIRE[name], _prefix(name)
    wire = {value.name.removeprefix(prefix): value.number for value in descriptor.values}
    assert wire.pop("UNSPECIFIED") == 0
    assert {member.name: member.value for member in _OURS[name]} == wire


@pytest.mark.parametrize("name", sorted(_OURS))
def test_words_lead_back_to_their_members(name: str) -> None:
    for member in _OURS[name]:
        assert member.word == member.name.lower()
        assert _OURS[name].from_word(member.word) is member
    with pytest.raises(KeyError):
        _OURS[name].from_word("nonsense")
