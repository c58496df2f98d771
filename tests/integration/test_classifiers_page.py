"""docs/classifiers.md, run as it stands there on a few small cells."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dino4cells.config import Config
from tests.conftest import Finished

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "classifiers.md").read_text(encoding="utf-8")
FEWER = {"--epochs 100": "--epochs 2"}
Command = Callable[..., Finished]


def commands() -> list[str]:
    """All commands of the page."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()]
    assert all(line.startswith("dino4cells ") for line in lines)
    return lines


def test_the_commands_run_in_the_order_of_the_page(
    dino4cells: Command, tiny_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # The map of the report is that of a machine without umap-learn, which takes long to start.
    monkeypatch.setitem(sys.modules, "umap", None)
    assert dino4cells("simulate", "cells", "--cells", 84, "--size", 32).code == 0
    table = pd.read_csv("cells/metadata.csv")
    table["compound"] = [f"{place}-{row // 7 % 2}" for row, place in enumerate(table["protein_location"])]
    table["split"] = [("train", "valid", "Test")[plate % 3] for plate in pd.factorize(table["plate"])[0]]
    table.to_csv("cells/metadata.csv", index=False)
    (tmp_path / "cells" / table["file"][3]).write_bytes(b"no image")
    Path("config.yaml").write_text(tiny_config({"embedding.baselines": True}, epochs=1, batch_size=32, max_bad_images=0.1).to_yaml())
    assert dino4cells("train", "--config", "config.yaml", "--data", "cells", "--output", "model").code == 0
    assert dino4cells("extract", "--model", "model", "--data", "cells", "--output", "features").code == 0
    answers = {}
    for command in commands():
        for long, short in FEWER.items():
            command = command.replace(long, short)
        ended = dino4cells(*shlex.split(command)[1:])
        assert ended.code == 0, f"{command}: {ended.err}"
        answers[shlex.split(command)[-1]] = ended.out

    metrics = json.loads(Path("classes/metrics.json").read_text())
    found = metrics["results"]["trained"]["knn"]
    low, high = found["intervals"]["balanced_accuracy"]
    assert low <= found["balanced_accuracy"] <= high
    assert f"[{low:.2f}, {high:.2f}]" in answers["classes"]
    better = metrics["differences"]["intensity"]["linear"]["balanced_accuracy"]
    assert re.search(rf"(better|worse) than intensity statistics by {abs(better['value']):.3f} \[", " ".join(answers["classes"].split()))
    assert "judged on test" in answers["classes-by-split"]
    assert "Nearest profile that differs in compound and plate" in answers["mechanisms"]
    assert "average precision" in answers["localizations"]
    for name in ("predictions", "predictions-by-neighbours", "predictions-of-places", "predictions-of-images"):
        rows = pd.read_parquet(f"{name}/predictions.parquet")
        assert rows["file"].tolist() == table["file"].tolist()
        assert rows["prediction"].isna().to_numpy().nonzero()[0].tolist() == [3]
        assert table["file"][3] in rows["error"][3]
    # Features that are there, and those of the images, are predicted alike.
    again = dino4cells("predict", "classes", "--data", "cells", "--output", "from-images")
    assert again.code == 0
    by_features, by_images = (
        pd.read_parquet(f"{name}/predictions.parquet").filter(like="probability_") for name in ("predictions", "from-images")
    )
    pd.testing.assert_frame_equal(by_features, by_images, atol=1e-4)
    refused = dino4cells("predict", "network", "--features", "features", "--output", "none")
    assert refused.code == 2
    assert "its features come from another model" in refused.err


def test_every_key_of_the_page_is_one_of_classification(dino4cells: Command) -> None:
    named = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE, flags=re.MULTILINE)) | set(re.findall(r"`?--([a-z]+_[a-z_]+)", PAGE))
    assert {"balance", "class_weights", "train_protein"} <= named
    for name in named:
        assert f"  {name}:" in dino4cells("config", "--preset", "none").out
