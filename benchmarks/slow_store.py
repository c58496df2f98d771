"""An object store whose every answer comes late: reads of S3 (GET and HEAD of objects below a directory) by one process of its own.

moto, by which the tests see whether reading is right, spends several milliseconds of a core on a request, so that it would be what is
measured. This server spends about a tenth of one, checks no signature, and counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

COUNTS = "/-/counts"  # no bucket has such a name

_RANGE = re.compile(rb"\r\nRange: bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "benchmark", "AWS_SECRET_ACCESS_KEY": "benchmark", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class SlowStore:
    """A running server.

    Attributes:
        endpoint: its address.
    """

    endpoint: str

    def counts(self) -> dict[str, int]:
        """`requests` since the start, and the `most_at_once` of them."""
        with urllib.request.urlopen(self.endpoint + COUNTS) as answer:
            return dict(json.loads(answer.read()))

    def requests(self) -> int:
        """How many there were since the start."""
        return self.counts()["requests"]


@contextlib.contextmanager
def slow_store(directory: Path, seconds: float = 0.05) -> Iterator[SlowStore]:
    """Serve `directory/bucket/key` as `s3://bucket/key`, each answer `seconds` after its request, while the block runs.

    The environment leads there also for processes that are started in the block; not for those of a forkserver that runs already.
    """
    command = [sys.executable, __file__, str(directory), str(seconds)]
    before = dict(os.environ)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
            for variable in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
                os.environ.pop(variable, None)
            os.environ.update({**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint, "NO_PROXY": "127.0.0.1"})
            yield SlowStore(endpoint)
        finally:
            os.environ.clear()
            os.environ.update(before)
            process.terminate()


async def _serve(directory: Path, seconds: float) -> None:
    counts = {"requests": 0, "now": 0, "most_at_once": 0}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answers(directory, seconds, counts), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class _Answers(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self, directory: Path, seconds: float, counts: dict[str, int]) -> None:
        self.directory, self.seconds, self.counts, self.received = directory, seconds, counts, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, self.received = self.received.partition(b"\r\n\r\n")
        if not end:
            self.received = head
            return
        method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
        asked = _RANGE.search(head)
        part = slice(int(asked[1]), int(asked[2]) + 1) if asked else None
        if target == COUNTS:
            self._write(method, "200 OK", json.dumps(self.counts).encode())
            return
        self.counts["requests"] += 1
        self.counts["now"] += 1
        self.counts["most_at_once"] = max(self.counts["most_at_once"], self.counts["now"])
        asyncio.get_running_loop().call_later(self.seconds, self._answer, method, unquote(urlsplit(target).path).lstrip("/"), part)

    def _answer(self, method: str, key: str, part: slice | None) -> None:
        self.counts["now"] -= 1
        try:
            with (self.directory / key).open("rb") as file:
                file.seek(part.start if part else 0)
                content = file.read(part.stop - part.start if part else -1)
        except OSError:
            self._write(method, "404 Not Found", b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")
        else:
            self._write(method, "206 Partial Content" if part else "200 OK", content)

    def _write(self, method: str, status: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
        self.transport.write(head.encode() + (b"" if method == "HEAD" else body))


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
