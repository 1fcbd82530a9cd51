"""Access checks of the server: host names, origins and security headers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
UNKNOWN_HOST = (
    "This server does not accept the host name of this request: use its IP address, "
    "or start the server with --allowed-host and that name."
)


def is_loopback(host: str) -> bool:
    """Return whether a host name or address refers to this machine only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = parse_address(host)
    return address is not None and address.is_loopback


def parse_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that `host` spells, or None if it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # a listener on :: sees 127.0.0.1 as ::ffff:127.0.0.1


def is_same_origin(connection: HTTPConnection) -> bool:
    """Return whether a request comes from the server's own page.

    The host and port of the `Origin` header must match those of the `Host` header. Behind a proxy
    that terminates TLS, the scheme of the page is not the scheme of the server, so a missing port
    matches both 80 and 443. Clients without an `Origin` header, such as scripts, are accepted from
    this machine only.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        return connection.client is not None and is_loopback(connection.client.host)
    page, host = _host_and_port(origin), _host_and_port(f"//{connection.headers.get('host', '')}")
    if page is None or host is None or page[0] != host[0]:
        return False
    return page[1] == host[1] or {page[1], host[1]} <= {None, 80, 443}


def _host_and_port(address: str) -> tuple[str, int | None] | None:
    """Split an address into its lower-case host and its port, None if it has none."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").removesuffix(".")
    return (host, port) if host else None


class SecurityMiddleware:
    """ASGI middleware that checks the `Host` header and adds security headers to every response.

    Only known host names are accepted, which protects against DNS rebinding: a foreign host name
    that resolves to this machine is rejected. IP addresses cannot be rebound.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] = (), allow_addresses: bool = False) -> None:
        """Wrap an ASGI app.

        Args:
            app: App to protect.
            hosts: Host names accepted in addition to loopback names.
            allow_addresses: Whether to accept any IP address as host. Required if other machines
                connect.
        """
        self.app = app
        self.hosts = {host.lower().removesuffix(".") for host in hosts}
        self.allow_addresses = allow_addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request to the app, or reject it with status 421."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if not self._is_known_host(Headers(scope=scope).get("host", "")):
            if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close", "code": 1008})
            else:
                await JSONResponse({"error": UNKNOWN_HOST}, status_code=421)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _is_known_host(self, header: str) -> bool:
        """Return whether a `Host` header names this server."""
        parsed = _host_and_port(f"//{header}")
        if parsed is None:
            return False
        host = parsed[0]
        return host in self.hosts or is_loopback(host) or (self.allow_addresses and parse_address(host) is not None)
