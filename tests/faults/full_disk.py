"""A program for a disk of its own that is full, which `unshare -Urm` gives it: python -m tests.faults.full_disk CELLS CONFIG DIRECTORY.

Prints a line of JSON for each thing that was tried: what, and whether all was as promised.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dino4cells import steps, storage
from dino4cells.artifacts import ArtifactWriter, open_artifact
from dino4cells.cache import Cache
from dino4cells.config import load_config
from dino4cells.errors import StorageError
from dino4cells.features.store import read_features

DISK_BYTES = 4 * 2**20
SAYS = "the disk is full; free some space or write elsewhere."


def tell(what: str, held: bool, said: object = "") -> None:
    print(json.dumps({"what": what, "held": bool(held), "said": str(said)}), flush=True)


@contextlib.contextmanager
def full(disk: Path, room: int) -> Iterator[None]:
    """The disk with no more room than this, in bytes."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - room))
    try:
        yield
    finally:
        filler.unlink()


def fails_full(action: object) -> str:
    """What is said where an action meets the full disk; nothing where it does not."""
    try:
        action()  # type: ignore[operator]
    except StorageError as error:
        return str(error)
    return ""


def try_artifact(disk: Path) -> None:
    url = str(disk / "artifact")

    def write(content: bytes) -> None:
        with ArtifactWriter(url, "model") as writer:
            writer.write_bytes("a", b"small")
            writer.write_bytes("b", content)

    write(b"old")
    with full(disk, 2**16):
        said = fails_full(lambda: write(bytes(2**20)))
        before = open_artifact(url, "model").read_bytes("b") == b"old"
    tell("an artifact over another", before and SAYS in said and storage.list_files(url) == ["a", "b", "manifest.json"], said)


def try_files(disk: Path) -> None:
    url, source, elsewhere = f"{disk}/file", disk.parent / "source", "memory://full/file"
    source.write_bytes(bytes(2**20))
    storage.write_bytes(elsewhere, bytes(2**20))
    for what, action in {
        "a file written over another": lambda: storage.write_bytes(url, bytes(2**20)),
        "a file copied over another": lambda: storage.upload(source, url),
        "a file downloaded over another": lambda: storage.download(elsewhere, disk / "file"),
    }.items():
        storage.write_bytes(url, b"old")
        with full(disk, 2**16):
            said = fails_full(action)
            tell(what, f"{url}: {SAYS}" == said and storage.read_bytes(url) == b"old" and list(disk.glob(".*")) == [], said)
    storage.remove(url)


def try_cache(disk: Path) -> None:
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("dino4cells").addHandler(handler)
    cache = Cache(disk / "cache", 2**30)
    with full(disk, 2**18):
        for number in range(40):
            cache.put(f"s3://lab/{number}", bytes([number]) * 2**14)
        kept = [number for number in range(40) if cache.get(f"s3://lab/{number}") is not None]
        whole = all(cache.get(f"s3://lab/{number}") == bytes([number]) * 2**14 for number in kept)
    said = " ".join(warnings)
    tell("a cache", whole and 0 < len(kept) < 40 and len(warnings) == 1 and "cannot be written (No space left on device)" in said, said)
    shutil.rmtree(disk / "cache")


def try_extraction(disk: Path, cells: str, config_file: str) -> None:
    config = load_config(config_file)
    model, output = str(disk.parent / "model"), str(disk / "features")
    steps.train(config, data=cells, output=model)

    def extract(*, overwrite: bool = False) -> None:
        steps.extract(model, config=config, data=cells, output=output, overwrite=overwrite)

    with full(disk, 2**14):
        said = fails_full(extract)
        tell("an extraction", SAYS in said and not storage.exists(f"{output}/manifest.json"), said)
    extract()
    first = read_features(output)
    other = config.model_copy(update={"embedding": config.embedding.model_copy(update={"precision": "bfloat16"})})
    with full(disk, 2**14):
        said = fails_full(lambda: steps.extract(model, config=other, data=cells, output=output, overwrite=True))
        tell("an extraction over another", SAYS in said and (read_features(output).dino == first.dino).all(), said)


def main() -> None:
    cells, config, directory = sys.argv[1:]
    disk = Path(directory, "disk")
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(disk)], check=True)
    try_files(disk)
    try_artifact(disk)
    try_cache(disk)
    try_extraction(disk, cells, config)


if __name__ == "__main__":
    main()
