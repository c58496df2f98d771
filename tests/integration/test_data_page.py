"""docs/data.md, run as it stands there on a few small cells and a real S3 server."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import boto3
import pandas as pd
import pytest

from dino4cells.config import Config
from tests.conftest import Finished

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
BUCKETS = ("lab", "bucket")
OUTPUTS = {" extract ": "--output features --overwrite", " train ": "--config config.yaml --overwrite"}
"""What a command is given besides, since its network would be of the published size, and the page's outputs follow each other."""


def commands() -> list[str]:
    """All commands of the page."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith("dino4cells ") for line in lines)
    return lines


def test_the_commands_run_in_the_order_of_the_page(
    dino4cells: Callable[..., Finished],
    tiny_config: Callable[..., Config],
    cells: str,
    s3: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(cells, "cells")
    Path("config.yaml").write_text(tiny_config(epochs=1).to_yaml())
    s3()
    store = boto3.client("s3")
    for bucket in BUCKETS:
        store.create_bucket(Bucket=bucket)
        for path in sorted(Path("cells").rglob("*.*")):
            store.upload_file(str(path), bucket, path.as_posix())
    for command in commands():
        if "DAPI" in command:  # cells whose channels have other names
            names = Path("cells/channels.txt").read_text()
            Path("cells/channels.txt").write_text(names.replace("nucleus", "DAPI").replace("protein", "GFP"))
        for verb, besides in OUTPUTS.items():
            command = command.replace(verb, f"{verb}{besides} ")
        ended = dino4cells(*shlex.split(re.split(r"\s+#", command)[0].replace("~", str(tmp_path)))[1:])
        assert ended.code == 0, f"{command}: {ended.err}"
    assert (tmp_path / ".cache" / "dino4cells").is_dir()
    assert len(pd.read_parquet("features/part-00000.parquet")) == len(pd.read_csv("cells/metadata.csv"))
    packed = {entry["Key"] for entry in store.list_objects_v2(Bucket="bucket", Prefix="packed/")["Contents"]}
    assert {"packed/metadata.csv", "packed/channels.txt", "packed/shards/cells-000000.tar"} <= packed
