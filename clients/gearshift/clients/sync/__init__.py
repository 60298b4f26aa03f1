# Written by clients/unasync.py from aio/__init__.py: change that one.
"""The client for synchronous programs."""

from gearshift.clients.sync.client import Client, dial
from gearshift.clients.sync.ops import OpsClient
from gearshift.clients.sync.streams import AttemptWatch, RouteStream

__all__ = ["AttemptWatch", "Client", "OpsClient", "RouteStream", "dial"]
