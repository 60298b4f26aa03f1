"""The client for asynchronous programs (anyio on asyncio)."""

from gearshift.clients.aio.client import Client, dial
from gearshift.clients.aio.ops import OpsClient
from gearshift.clients.aio.streams import AttemptWatch, RouteStream

__all__ = ["AttemptWatch", "Client", "OpsClient", "RouteStream", "dial"]
