"""The page of `sqlite-ivf demo` and its API, for browsers on this machine."""

from __future__ import annotations

import ipaddress
import json
import secrets
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Optional
from urllib.parse import parse_qs, urlsplit

from .search import Demo, RequestError

PAGE = Path(__file__).with_name("page.html")
MOST = 1 << 20


class Server(ThreadingHTTPServer):
    """Serves one table."""

    daemon_threads = True
    request_queue_size = 64  # of 5, a busy machine resets the connections of one browser

    def __init__(self, demo: Demo, host: str = "127.0.0.1", port: int = 0) -> None:
        self.demo, self.host = demo, host
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.page = PAGE.read_text(encoding="utf-8")
        self.description = demo.describe()
        super().__init__((host, port), Handler)
        self.loopback = ipaddress.ip_address(str(self.server_address[0])).is_loopback

    @property
    def url(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"

    def admits(self, given: Optional[str]) -> bool:
        """Whether a Host header names this server. A page of another site, whose name its owner lets point here, does not."""
        try:
            name = urlsplit(f"//{given}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self.host.lower()):
            return True
        try:
            # An address is no name that somebody else could let point here.
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sqlite-ivf", ""
    timeout = 60

    def do_GET(self) -> None:
        """The page, and what only looks."""
        target = urlsplit(self.path)
        if not self._admitted():
            return
        if target.path == "/":
            nonce = secrets.token_urlsafe(16)
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page.replace("NONCE", nonce).encode(), nonce)
        elif target.path == "/api/table":
            self._answer(lambda: self.server.description)
        elif target.path == "/api/curve":
            self._answer(self.server.demo.curve)
        elif target.path == "/api/suggest":
            text = parse_qs(target.query).get("text", [""])[0]
            self._answer(lambda: self.server.demo.suggest(text))
        elif target.path == "/api/search":
            self._say(HTTPStatus.METHOD_NOT_ALLOWED, {"error": "/api/search takes POST with a JSON object"}, Allow="POST")
        else:
            self._say(HTTPStatus.NOT_FOUND, {"error": f"there is no {target.path}, only /, /api/table, suggest, search and curve"})

    def do_POST(self) -> None:
        """A search."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST:
            self.close_connection = True  # the body stays unread
            self._say(HTTPStatus.BAD_REQUEST, {"error": f"a Content-Length of at most {MOST} is expected"})
            return
        body = self.rfile.read(int(length))
        if not self._admitted():
            return
        if urlsplit(self.path).path != "/api/search":
            self._say(HTTPStatus.NOT_FOUND, {"error": "only /api/search takes POST"})
        elif self.headers.get_content_type() != "application/json":
            # Pages of other sites cannot send this type without asking first, which is refused.
            self._say(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": "Content-Type: application/json is expected"})
        else:
            self._answer(lambda: self.server.demo.search(_parsed(body)))

    def _admitted(self) -> bool:
        if self.server.admits(self.headers.get("Host")):
            return True
        self._say(HTTPStatus.FORBIDDEN, {"error": f"Host: {self.headers.get('Host')} is not this server, {self.server.url} is"})
        return False

    def _answer(self, ask: Any) -> None:
        try:
            answer = ask()
        except RequestError as error:
            self._say(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except Exception as error:
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": f"{type(error).__name__}: {error}"})
        else:
            self._say(HTTPStatus.OK, answer)

    def _say(self, status: HTTPStatus, answer: Any, **headers: str) -> None:
        self._send(status, "application/json", json.dumps(answer).encode(), **headers)

    def _send(self, status: HTTPStatus, kind: str, body: bytes, nonce: str = "", **headers: str) -> None:
        policy = f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; " if nonce else ""
        sent: Dict[str, str] = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Content-Security-Policy": f"default-src 'none'; {policy}base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            **headers,
        }
        try:
            self.send_response(status)
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):  # the browser did not wait
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal shows the address."""


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the body is no JSON: {error}") from None
