"""Files that hold code: none of it runs, whatever command is given the file, and the answer names the file."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from dino4cells.artifacts import ArtifactWriter
from dino4cells.classify import evaluation
from dino4cells.classify.saved import load_saved
from dino4cells.errors import ArtifactError, Dino4CellsError
from dino4cells.events import text_of
from dino4cells.features.published import read_features_file
from dino4cells.models.weights import read_weights
from tests.faults.hostile_files import Call, as_files, behind_tensors, raw_pickles
from tests.tally import Tally

Command = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")


def files(trace: Path) -> dict[str, bytes]:
    """Files that would make the directory `trace`, by what they are."""
    call = Call("mkdir", str(trace))
    made = {"behind tensors": behind_tensors(call, False), "behind tensors, older layout": behind_tensors(call, True)}
    for number, code in enumerate(raw_pickles(call)):
        made.update({f"{layout} {number}": content for layout, content in as_files(code).items()})
    return made


def test_the_files_run_their_code_where_nobody_stops_it(tmp_path: Path) -> None:
    """Otherwise the tests below would show nothing."""
    trace, ran = tmp_path / "trace", 0
    for code in raw_pickles(Call("mkdir", str(trace))):
        with suppress(Exception):
            pickle.loads(code)
        ran += trace.exists()
        shutil.rmtree(trace, ignore_errors=True)
    assert ran >= 30
    for legacy in (False, True):
        torch.load(io.BytesIO(behind_tensors(Call("mkdir", str(trace)), legacy)), weights_only=False)
        assert trace.exists()
        trace.rmdir()


def test_no_reader_of_weights_or_features_runs_the_code_of_a_file(tmp_path: Path, tally: Tally) -> None:
    tally.what = "a file that holds code, read as weights and as features"
    trace = tmp_path / "trace"
    for name, content in files(trace).items():
        path = tmp_path / "file.pth"
        path.write_bytes(content)
        for read in (read_weights, read_features_file):
            with pytest.raises(Dino4CellsError) as caught:
                read(str(path))
            tally.count(str(caught.value).startswith(f"{path}: ") and not trace.exists() and "\n" not in str(caught.value))
            assert not trace.exists(), name


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fitted classifier of features, such as `classify` leaves."""
    url = str(tmp_path_factory.mktemp("classes") / "classes")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(np.eye(4, dtype=np.float32), ["a", "b", "a", "b"])
    write_classifier(url, skops.io.dumps(model))
    return url


def write_classifier(url: str, content: bytes) -> None:
    with ArtifactWriter(url, evaluation.KIND) as writer:
        writer.write_text(evaluation.METRICS, json.dumps({"features": {"embedding_dim": 4}}))
        writer.write_bytes("linear_probe.skops", content)


def test_no_command_runs_the_code_of_a_file(
    dino4cells: Command, classifier: str, cells: str, tiny_yaml: str, tmp_path: Path, tally: Tally
) -> None:
    tally.what = "a file that holds code, given to a command"
    trace, path, out = tmp_path / "trace", tmp_path / "file.pth", tmp_path / "out"
    commands = {
        "train --init": ("train", "--config", tiny_yaml, "--data", cells, "--output", out, "--init", path),
        "extract --model": ("extract", "--model", path, "--config", tiny_yaml, "--data", cells, "--output", out),
        "classify --features": ("classify", "--features", path, "--output", out),
        "predict --features": ("predict", classifier, "--features", path, "--output", out),
        "features export": ("features", "export", path, "--output", tmp_path / "out.parquet"),
    }
    chosen = list(files(trace).values())[::21]
    for what, words in commands.items():
        for content in chosen:
            path.write_bytes(content)
            answer = dino4cells(*words)
            last = text_of(answer.err.splitlines()[-1])
            tally.count(answer.code == 2 and last.startswith(f"error: {path}: ") and not trace.exists())
            assert answer.code == 2, (what, answer.err)
            assert not trace.exists(), what


@pytest.mark.parametrize("kind", ["a function of its own", "a partial", "a pickle", "nothing"])
def test_a_classifier_that_holds_code_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    trace, url = tmp_path / "trace", str(tmp_path / "classes")
    if kind in ("a pickle", "nothing"):
        content = pickle.dumps(Call("mkdir", str(trace))) if kind == "a pickle" else b""
    else:
        function = os.mkdir if kind == "a function of its own" else functools.partial(os.mkdir, str(trace))
        content = skops.io.dumps(make_pipeline(FunctionTransformer(function)))
    write_classifier(url, content)
    with pytest.raises(ArtifactError, match=r"classes/linear_probe\.skops: (holds something else|the classifier is damaged)"):
        load_saved(url)
    assert not trace.exists()
