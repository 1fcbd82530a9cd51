"""Who may talk to the server: its own page, and programs on the same machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
REFUSAL = (
    "This server does not answer to the host name that it was asked for by: take its address in numbers, "
    "or start it with --allowed-host and that name."
)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = address_of(host)
    return address is not None and address.is_loopback


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # a listener on :: sees 127.0.0.1 as ::ffff:127.0.0.1


def same_host(connection: HTTPConnection) -> bool:
    """Whether a request comes from the server's own page.

    A browser says in `Origin` whose page asks: host and port must be those that were asked. Where a proxy speaks TLS in
    front of the server, the page's scheme is not the server's, so a host without a port is that of either. A program that is
    no browser sends no `Origin` and is let in from this machine only.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        return connection.client is not None and is_loopback(connection.client.host)
    page, asked = _host_and_port(origin), _host_and_port(f"//{connection.headers.get('host', '')}")
    if page is None or asked is None or page[0] != asked[0]:
        return False
    return page[1] == asked[1] or {page[1], asked[1]} <= {None, 80, 443}


def _host_and_port(address: str) -> tuple[str, int | None] | None:
    """Both in lower case; the port is None where none is named."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").removesuffix(".")
    return (host, port) if host else None


class Guard:
    """ASGI middleware: checks the `Host` header and puts the security headers on every answer.

    Only names that are known are answered: a foreign page whose name was made to point at this machine (DNS rebinding)
    is refused. An address in numbers cannot be made to point elsewhere.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = (), by_address: bool = False) -> None:
        """Wraps an app.

        Args:
            app: what to guard.
            hosts: host names that may be asked for besides loopback names.
            by_address: whether any IP address may be asked for too, as where others reach this machine.
        """
        self.app = app
        self.hosts = {host.lower().removesuffix(".") for host in hosts}
        self.by_address = by_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if not self._knows(Headers(scope=scope).get("host", "")):
            if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1008})
            else:
                await JSONResponse({"error": REFUSAL}, status_code=421)(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, send_guarded)

    def _knows(self, header: str) -> bool:
        """Whether a `Host` header names this server."""
        asked = _host_and_port(f"//{header}")
        if asked is None:
            return False
        host = asked[0]
        return host in self.hosts or is_loopback(host) or (self.by_address and address_of(host) is not None)
