"""Secrets that a test plants, and a search for them in whatever a run wrote: files unpacked, values decoded, arguments of processes."""

from __future__ import annotations

import base64
import gzip
import io
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq

# Long enough that none occurs by chance. A secret key of AWS may hold slashes and plus signs.
ACCESS_KEY = "AKIAPLANTED0ACCESS01"
SECRET_KEY = "pLaNtEd/secret+Key0123456789abcdefGHIJKL"
SESSION_TOKEN = "FwoGplantedSessionToken//////////wEaDPlanted0123456789+abc=="
HUB_TOKEN = "hf_PlantedHubToken0123456789abcdef"
CLUSTER_TOKEN = "eyPlantedClusterToken0123456789.abcdef-ghi_jkl"
PIPELINES_TOKEN = "eyPlantedPipelinesToken0123456789.abcdef"
PIPELINES_COOKIE = "authservice_session=PlantedCookie0123456789"
PASSWORD = "pLaNtEd-pass:word@0123"
SIGNATURE = "plantedsignature0123456789abcdef0123456789abcdef"

SECRETS: Mapping[str, str] = {
    "access key": ACCESS_KEY,
    "secret key": SECRET_KEY,
    "session token": SESSION_TOKEN,
    "token of a hub": HUB_TOKEN,
    "token of a cluster": CLUSTER_TOKEN,
    "token of Kubeflow Pipelines": PIPELINES_TOKEN,
    "cookie of Kubeflow Pipelines": PIPELINES_COOKIE,
    "password of an address": PASSWORD,
    "signature of an address": SIGNATURE,
}
VARIABLES: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_SESSION_TOKEN": SESSION_TOKEN,
    "HF_TOKEN": HUB_TOKEN,
    "KF_PIPELINES_TOKEN": PIPELINES_TOKEN,
    "KF_PIPELINES_COOKIE": PIPELINES_COOKIE,
}
"""Where they stand in the environment, as in the pod of a step or on a laptop."""

URLS: Mapping[str, str] = {
    "a password": f"s3://user:{PASSWORD}@bucket/cells",
    "keys": f"s3://{ACCESS_KEY}:{SECRET_KEY}@bucket/cells",
    "a password over HTTPS": f"https://user:{PASSWORD}@store.example/cells",
    "a token alone": f"https://{HUB_TOKEN}@hub.example/cells",
    "a signature": f"https://bucket.store.example/cells?X-Amz-Credential={ACCESS_KEY}%2F20260101&X-Amz-Signature={SIGNATURE}",
    "a session": f"https://bucket.store.example/cells?X-Amz-Security-Token={quote(SESSION_TOKEN, safe='')}&versionId=7",
}
"""Addresses with secrets in them, by what they hold."""


def _forms(secret: str) -> set[bytes]:
    """How a secret may look in a file: as it is, in a URL, in base64 (as in a Secret of Kubernetes), in JSON, in UTF-16."""
    plain = secret.encode()
    escaped = secret.replace("/", "\\/").encode()
    return {plain, quote(secret, safe="").encode(), base64.b64encode(plain).rstrip(b"="), escaped, secret.encode("utf-16-le")}


_NEEDLES = {name: _forms(secret) for name, secret in SECRETS.items()}


def in_bytes(content: bytes) -> set[str]:
    """Names of the secrets that stand in some bytes, in whatever form."""
    return {name for name, forms in _NEEDLES.items() if any(form in content for form in forms)}


def in_text(text: str) -> set[str]:
    """As `in_bytes`."""
    return in_bytes(text.encode("utf-8", "surrogateescape"))


def in_file(name: str, content: bytes) -> set[str]:
    """Names of the secrets that stand in a file, its own bytes and what it holds compressed or encoded."""
    return set().union(*(in_bytes(part) for part in _parts(name, content)))


def in_directory(directory: Path) -> dict[str, set[str]]:
    """Files below a directory that hold secrets, with the names of these; names of files count too."""
    found = {}
    for path in sorted(directory.rglob("*")):
        names = in_text(path.name) | (in_file(path.name, path.read_bytes()) if path.is_file() else set())
        if names:
            found[str(path.relative_to(directory))] = names
    return found


def _parts(name: str, content: bytes) -> Iterator[bytes]:
    yield content
    if content[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(content))
        yield str(table.schema.metadata).encode()
        for column in table.column_names:
            if not column.startswith("dino_"):
                yield "\n".join(map(str, table.column(column).to_pylist())).encode()
    elif zipfile.is_zipfile(io.BytesIO(content)):  # checkpoints of PyTorch, classifiers of skops
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _parts(member, archive.read(member))
    elif content[:2] == b"\x1f\x8b":
        yield from _parts(name, gzip.decompress(content))
    if name.endswith(".html"):
        # Pictures and tables that a page carries as data.
        for piece in content.split(b"base64,")[1:]:
            text = piece[: len(piece) - len(piece.lstrip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="))]
            data = base64.b64decode(text + b"=" * (-len(text) % 4))
            yield data
            with suppress(zlib.error):
                yield zlib.decompress(data)


@contextmanager
def watched_processes(every: float = 0.1) -> Iterator[dict[str, set[str]]]:
    """Arguments of the Python processes of this machine that ran meanwhile, with the secrets in them."""
    seen: dict[str, set[str]] = {}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(every):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    words = file.read_bytes().replace(b"\0", b" ")
                except OSError:  # it has ended
                    continue
                if b"python" in words and (text := words.decode("utf-8", "replace")) not in seen:
                    seen[text] = in_bytes(words)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        stop.set()
        watcher.join()
