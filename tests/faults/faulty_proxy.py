"""A proxy in front of an S3 server that lets requests through, or makes of them what networks and servers make of them on bad days."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Fault(Enum):
    """What becomes of a request."""

    ERROR_500 = "500"
    BUSY_503 = "503 with Retry-After"
    RESET = "a connection closed without an answer"
    LOST_ANSWER = "a request that was done and whose answer was lost"
    CUT = "an answer cut in the middle"
    ANNOUNCES_MORE = "a Content-Length of more than comes"
    ANNOUNCES_LESS = "a Content-Length of less than the object"
    STALL = "an answer that stops in the middle"
    TRICKLE = "an answer that trickles, a byte at a time"
    CUT_UPLOAD = "an upload cut in the middle"
    DENIED_403 = "403 to rotated credentials"
    FORBIDDEN_403 = "403 to one object"
    MISSING_404 = "404"


OF_A_BODY = (Fault.CUT, Fault.ANNOUNCES_MORE, Fault.ANNOUNCES_LESS, Fault.STALL, Fault.TRICKLE)
"""Faults of an answer that brings an object."""
TRANSIENT = tuple(Fault)[:10]

_ANSWERS = {
    Fault.ERROR_500: (500, "InternalError"),
    Fault.BUSY_503: (503, "SlowDown"),
    Fault.DENIED_403: (403, "InvalidAccessKeyId"),
    Fault.FORBIDDEN_403: (403, "AccessDenied"),
    Fault.MISSING_404: (404, "NoSuchKey"),
}


@dataclass(frozen=True)
class Request:
    """What a client asks for.

    Attributes:
        method: of HTTP.
        key: bucket and object, without quoting.
        query: as it stands in the address.
        size: of the body, in bytes.
        access_key: that signed it.
    """

    method: str
    key: str
    query: str
    size: int
    access_key: str

    @property
    def brings_object(self) -> bool:
        """Whether the answer to it holds an object."""
        return self.method == "GET" and "/" in self.key and "list-type" not in self.query


@dataclass
class FaultyProxy:
    """The proxy, while it runs.

    Attributes:
        url: where it listens.
        next: faults of the next requests that `wants` is true of, in turn; used up first.
        wants: which requests those are.
        choose: the fault of any other request, or None.
        made: how often each fault was made.
        seen: all requests, in their order.
        trickle_seconds: between two bytes.
        retry_after: what BUSY_503 asks for, in seconds.
        etag: in place of that of every object.
    """

    url: str = ""
    next: deque[Fault] = field(default_factory=deque)
    wants: Callable[[Request], bool] = lambda request: True
    choose: Callable[[Request], Fault | None] = lambda request: None
    made: Counter[Fault] = field(default_factory=Counter)
    seen: list[Request] = field(default_factory=list)
    trickle_seconds: float = 0.1
    retry_after: int = 0
    etag: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, request: Request) -> Fault | None:
        """The fault of a request, which is counted."""
        with self._lock:
            self.seen.append(request)
            fault = self.next.popleft() if self.next and self.wants(request) else self.choose(request)
            if fault is not None:
                self.made[fault] += 1
            return fault


@contextlib.contextmanager
def faulty_proxy(server: str, certificate: tuple[str, str] | None = None) -> Iterator[FaultyProxy]:
    """Runs a proxy in front of the server at a URL, in threads of this process.

    Args:
        server: over HTTP.
        certificate: files of a certificate and its key, or None: the proxy speaks plain HTTP too.
    """
    proxy = FaultyProxy()
    handler = type("Handler", (_Handler,), {"proxy": proxy, "upstream": urlsplit(server).netloc})
    with _Server(("127.0.0.1", 0), handler) as listening:
        proxy.url = f"{'https' if certificate else 'http'}://127.0.0.1:{listening.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handshake is left to the thread of its connection.
            listening.socket = context.wrap_socket(listening.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=listening.serve_forever, args=[0.05], daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.closing.set()
            listening.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy
    upstream: str

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        size = int(self.headers.get("Content-Length") or 0)
        signed_by = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        fault = self.proxy.fault_of(Request(self.command, unquote(parts.path).lstrip("/"), parts.query, size, signed_by))
        if fault is Fault.CUT_UPLOAD:
            self.rfile.read(size // 2)
            return self.hang_up()
        body = self.rfile.read(size)
        if fault is Fault.RESET:
            return self.hang_up()
        if fault in _ANSWERS:
            return self.refuse(fault, *_ANSWERS[fault])
        status, headers, content, length = self.forwarded(body)
        if fault is Fault.LOST_ANSWER:
            return self.hang_up()
        if fault in OF_A_BODY and len(content) > 1:
            return self.maim(fault, status, headers, content)
        self.begin(status, headers, length)
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes, str]:
        """The server's answer: status, headers, content, and the length that it announces, which HEAD does not bring."""
        connection = http.client.HTTPConnection(self.upstream)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content = answer.read()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
            if self.proxy.etag:
                headers = [(name, self.proxy.etag if name.lower() == "etag" else value) for name, value in headers]
            return answer.status, headers, content, answer.getheader("Content-Length") or str(len(content))
        finally:
            connection.close()

    def maim(self, fault: Fault, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        half, length = content[: len(content) // 2], len(content)
        if fault is Fault.ANNOUNCES_MORE:
            self.begin(status, headers, str(length + 100))
            self.wfile.write(content)
        elif fault is Fault.ANNOUNCES_LESS:
            self.begin(status, headers, str(len(half)))
            self.wfile.write(content)
        else:
            self.begin(status, headers, str(length))
            if fault is Fault.TRICKLE:
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if self.proxy.closing.wait(self.proxy.trickle_seconds):
                        break
            else:
                self.wfile.write(half)
                self.wfile.flush()
                if fault is Fault.STALL:
                    self.proxy.closing.wait(30)
        self.hang_up()

    def begin(self, status: int, headers: list[tuple[str, str]], length: str) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()

    def refuse(self, fault: Fault, status: int, code: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>as the test asked</Message></Error>".encode()
        if self.command == "HEAD":
            content = b""
        headers = [("Content-Type", "application/xml")]
        if fault is Fault.BUSY_503:
            headers.append(("Retry-After", str(self.proxy.retry_after)))
        self.begin(status, headers, str(len(content)))
        self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """A test prints no access log."""
