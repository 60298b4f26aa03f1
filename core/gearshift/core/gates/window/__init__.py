"""Gates that watch an answer while it is being written: one watcher a file."""

from gearshift.core.gates.window.base import Watcher, Window
from gearshift.core.gates.window.watch import Watch

__all__ = ["Watch", "Watcher", "Window"]
