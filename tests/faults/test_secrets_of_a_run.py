"""Secrets are planted in the environment of a whole run, and looked for in everything that it wrote and started."""

from __future__ import annotations

import gzip
import json
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from dino4cells import storage
from dino4cells.training.tensorboard import EVENTS
from tests.faults import planted
from tests.tally import Tally


@dataclass(frozen=True)
class Ran:
    """What a run left: directories on this machine, with everything that is in the store, and what it printed."""

    written: Path
    said: str
    processes: dict[str, set[str]]


@pytest.fixture(scope="module")
def planting(s3: Callable[[], str]) -> Iterator[str]:
    """A bucket, with the secrets in the environment; the store lets anybody in."""
    url = s3()
    with pytest.MonkeyPatch.context() as patch:
        for name, secret in planted.VARIABLES.items():
            patch.setenv(name, secret)
        yield url


@pytest.fixture(scope="module")
def ran(planting: str, tiny_yaml: str, draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Training by two processes, extraction, classification, prediction, profiles: each from the store and into it."""
    root = tmp_path_factory.mktemp("ran")
    local, kept = Path(draw_cells(root / "cells", 24)), root / "written"
    (kept / "tmp").mkdir(parents=True)
    for file in ("metadata.csv", "channels.txt", *(f"images/{index:03d}.png" for index in range(24))):
        storage.upload(local / file, f"{planting}/cells/{file}")
    cells, said = f"{planting}/cells", []
    commands: list[tuple[str, ...]] = [
        ("data", "validate", "--data", cells),
        ("data", "pack", "--data", cells, "--to", f"{planting}/packed", "--with-rows"),
        ("train", "--config", tiny_yaml, "--data", cells, "--output", f"{planting}/model", "--processes", "2"),
        ("extract", "--model", f"{planting}/model", "--data", cells, "--output", f"{planting}/features"),
        ("profiles", f"{planting}/features", "--output", f"{planting}/profiles"),
        ("features", "export", f"{planting}/features", "--output", f"{planting}/features.h5ad"),
        (
            *("classify", "--features", f"{planting}/features", "--folds", "2", "--data", cells, "--model", f"{planting}/model"),
            *("--output", f"{planting}/classes"),
        ),
        ("predict", f"{planting}/classes", "--features", f"{planting}/features", "--output", f"{planting}/predictions"),
        ("config", "--config", tiny_yaml),
        ("pipeline", "compile", str(kept / "pipeline.yaml")),
        (
            *("job", "render", "--image", "registry.example/d:1", "--data", cells, "--output", f"{planting}/model", "--to"),
            *(str(kept / "job.yaml"), "--secrets", "[{variable: AWS_ACCESS_KEY_ID, secret: store, key: accesskey}]"),
        ),
    ]
    with planted.watched_processes() as processes, pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)  # its compilation takes longer than all of this
        patch.setenv("TMPDIR", str(kept / "tmp"))
        patch.setattr("tempfile.tempdir", str(kept / "tmp"))
        for words in commands:
            done = _run(words, root)
            said.append(f"$ {' '.join(words)}\n{done}")
    for name in storage.list_files(planting):
        storage.download(f"{planting}/{name}", kept / "store" / name)
    return Ran(kept, "\n".join(said), processes)


def _run(words: tuple[str, ...], directory: Path) -> str:
    """What a command prints, what its processes print too; it must succeed."""
    import contextlib
    import io

    from dino4cells.cli import main

    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        patch.setattr("sys.argv", ["dino4cells", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code, f"{words}: {out.getvalue()}"
    return out.getvalue()


def test_the_run_wrote_what_is_searched(ran: Ran) -> None:
    """An empty directory holds no secret either."""
    files = {path.relative_to(ran.written).as_posix() for path in ran.written.rglob("*") if path.is_file()}

    for file in ("model/checkpoint.pth", "model/model.safetensors", "model/config.yaml", "model/log.jsonl", f"model/{EVENTS}"):
        assert f"store/{file}" in files
    assert {"store/features.h5ad", "store/classes/report.html", "pipeline.yaml", "job.yaml"} <= files
    for folder in ("features", "profiles", "predictions", "packed"):
        assert any(file.startswith(f"store/{folder}/") for file in files)
    assert any("torch.distributed.run" in words for words in ran.processes)
    assert sum("dino4cells.training" in words for words in ran.processes) >= 2, "torchrun and its processes were not seen"


def test_no_file_that_a_run_wrote_holds_a_secret(ran: Ran, tally: Tally) -> None:
    tally.what = "files of a run with secrets in its environment"
    found = planted.in_directory(ran.written)

    for path in ran.written.rglob("*"):
        if path.is_file():
            tally.count(str(path.relative_to(ran.written)) not in found)
    assert found == {}


def test_no_line_that_a_run_printed_holds_a_secret(ran: Ran) -> None:
    assert "epoch" in ran.said
    assert planted.in_text(ran.said) == set()


def test_no_argument_of_a_process_holds_a_secret(ran: Ran) -> None:
    assert {words: names for words, names in ran.processes.items() if names} == {}


def test_the_manifest_names_secrets_and_holds_none(ran: Ran) -> None:
    job = yaml.safe_load((ran.written / "job.yaml").read_text())
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]

    assert {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "store", "key": "accesskey"}}} in container["env"]


# The search finds what is there.


def _torch(path: Path, secret: str) -> None:
    torch.save({"config": {"data_path": secret}}, path)


def _pickle(path: Path, secret: str) -> None:
    path.write_bytes(pickle.dumps({"a": [secret]}))


def _parquet(path: Path, secret: str) -> None:
    pd.DataFrame({"Metadata_file": [secret, "b"], "dino_0": [1.0, 2.0]}).to_parquet(path, compression="zstd")


def _zip(path: Path, secret: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", json.dumps({"a": secret}))


def _events(path: Path, secret: str) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    with path.open("wb") as file:
        RecordWriter(file).write(Event(file_version=secret).SerializeToString())


WRITERS: dict[str, Callable[[Path, str], Any]] = {
    "text": lambda path, secret: path.write_text(f"endpoint: {secret}\n"),
    "json": lambda path, secret: path.write_text(json.dumps({"a": secret})),
    "gzip": lambda path, secret: path.write_bytes(gzip.compress(secret.encode())),
    "safetensors": lambda path, secret: save_file({"a": torch.zeros(1)}, str(path), {"note": secret}),
    "pth": _torch,
    "pickle": _pickle,
    "parquet": _parquet,
    "zip": _zip,
    "events": _events,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_search_finds_a_secret_in_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    for name, secret in planted.SECRETS.items():
        WRITERS[kind](tmp_path / "file", secret)
        assert planted.in_directory(tmp_path) == {"file": {name}}, name
