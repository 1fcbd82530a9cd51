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


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as; None for a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # a listener on :: sees 127.0.0.1 as ::ffff:127.0.0.1


def same_host(connection: HTTPConnection) -> bool:
    """Whether a request comes from the server's own page.

    A browser says in `Origin` whose page asks: host and port must be those that were asked. A program that is no
    browser sends no `Origin` and is let in from this machine only.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        return connection.client is not None and is_loopback(connection.client.host)
    asked = _host_and_port(f"//{connection.headers.get('host', '')}", connection.url.scheme)
    return asked is not None and _host_and_port(origin, "") == asked


def _host_and_port(address: str, scheme: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    if not parts.hostname:
        return None
    return parts.hostname, port or (443 if (parts.scheme or scheme) in ("https", "wss") else 80)


class Guard:
    """ASGI middleware: checks the `Host` header and puts the security headers on every answer.

    With `hosts` the host asked for must be one of these or a loopback name: a foreign page whose name was made to point
    at this machine (DNS rebinding) is refused.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None) -> None:
        """Wraps an app.

        Args:
            app: what to guard.
            hosts: host names that may be asked for; None allows any.
        """
        self.app = app
        self.hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        asked = _host_and_port(f"//{Headers(scope=scope).get('host', '')}", "")
        if self.hosts is not None and (asked is None or not (asked[0] in self.hosts or is_loopback(asked[0]))):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                answer = JSONResponse({"error": "This server answers to its own host name only."}, status_code=421)
                await answer(scope, receive, send)
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
