"""The one HTTP/1.1 client of all provider adapters: open a call, read what comes, close.

Rules: nothing else speaks HTTP to providers. asyncio's transports carry the bytes and httptools (llhttp) reads them; there
are no redirects, cookies or proxies of the environment. Whatever goes wrong is a `ProviderFailure`; nothing is ever sent
twice, since retries belong to the engine: a pooled connection that the server closes under a request is CONNECTION like
any other. A response whose body has come whole gives its connection back to the pool; `close` drops it at once. A call
costs one write and mostly one wake-up of its task, and neither a task nor a scope of its own.
"""

from gearshift.core.http._client import Http, Sender
from gearshift.core.http._response import READ_ALL_LIMIT, HttpResponse, Woken

__all__ = ["READ_ALL_LIMIT", "Http", "HttpResponse", "Sender", "Woken"]
