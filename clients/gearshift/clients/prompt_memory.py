"""Remembers under which key the server stored a system prompt, so that the text is sent only once.

Rules: keeps hashes and keys, never a text; bounded, the least used goes first; tasks and threads may share it. A key
belongs to a task, and the server may forget it: then the text is sent again, once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from gearshift.clients.errors import Code, RpcError
from gearshift.v1 import call_pb2

MIN_CHARACTERS: Final = 500
"""Prompts up to this length are sent whole, since the server does not keep them."""

_CAPACITY: Final = 256
_REASON: Final = "PROMPT_NOT_CACHED"

_Name = tuple[str, bytes]


class PromptMemory:
    """The keys of the prompts that one client has sent."""

    def __init__(self, capacity: int = _CAPACITY) -> None:
        self._lock = threading.Lock()
        self._keys: OrderedDict[_Name, str] = OrderedDict()
        self._capacity = capacity

    def __len__(self) -> int:
        return len(self._keys)

    def shorten(self, call: call_pb2.Call) -> bool:
        """Put the key in the place of the text, if it is known; return whether it was."""
        name = _name(call.task.id, call.system.text)
        if name is None:
            return False
        with self._lock:
            key = self._keys.get(name)
            if key is None:
                return False
            self._keys.move_to_end(name)
        call.system.key = key
        return True

    def remember(self, task_id: str, text: str, key: str) -> None:
        """Keep the key that the server gave for a text; an empty one is no key."""
        name = _name(task_id, text)
        if name is None or not key:
            return
        with self._lock:
            self._keys[name] = key
            self._keys.move_to_end(name)
            while len(self._keys) > self._capacity:
                self._keys.popitem(last=False)

    def forget(self, task_id: str, text: str) -> None:
        """Drop the key of a text, because the server no longer knows it."""
        name = _name(task_id, text)
        if name is not None:
            with self._lock:
                self._keys.pop(name, None)

    def forget_key(self, task_id: str, key: str) -> None:
        """Drop a key, because it was deleted."""
        with self._lock:
            for name in [name for name, kept in self._keys.items() if kept == key and name[0] == task_id]:
                del self._keys[name]


def is_forgotten(error: RpcError) -> bool:
    """Whether an error says that the server does not know the key that was sent."""
    return error.code is Code.FAILED_PRECONDITION and error.reason == _REASON


def _name(task_id: str, text: str) -> _Name | None:
    if len(text) <= MIN_CHARACTERS:
        return None
    return task_id, hashlib.sha256(text.encode()).digest()
