"""flipcall.asyncio: the same services with `async def`, in an event loop.

The asynchronous door. connect() and serve() are those of flipcall; what else flipcall offers (errors, Service,
Peer, context(), with_options()) serves both.
"""

from .client import Connecting, connect
from .server import Server, serve
from .views import into, view

__all__ = ["Connecting", "Server", "connect", "into", "serve", "view"]
