"""Whole steps over a store that fails now and then end as over one that does not; over one that fails for good they end with its name."""

from __future__ import annotations

import io
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dino4cells import steps, storage, storage_retry
from dino4cells.artifacts import is_complete, open_artifact
from dino4cells.config import Config
from dino4cells.errors import StorageError, StoreUnavailable
from dino4cells.events import text_of
from dino4cells.features.store import read_features
from dino4cells.storage_retry import counted_repeats
from tests.faults.faulty_proxy import OF_A_BODY, TRANSIENT, Fault, FaultyProxy, Request, faulty_proxy
from tests.tally import Tally

HISTORIES = int(os.environ.get("DINO4CELLS_STORE_HISTORIES", "1"))
SHARE = 0.15  # of the requests that fail
SLOW = (Fault.STALL, Fault.TRICKLE)  # each is made once: it takes as long as its limit


@dataclass(frozen=True)
class Run:
    """What three steps have written below a URL."""

    base: str
    config: Config

    def make(self, cells: str) -> Run:
        steps.train(self.config, data=cells, output=f"{self.base}/model")
        steps.extract(f"{self.base}/model", config=self.config, data=cells, output=f"{self.base}/features")
        steps.classify(f"{self.base}/features", config=self.config, output=f"{self.base}/classes")
        return self

    @property
    def weights(self) -> bytes:
        return open_artifact(f"{self.base}/model", "model").read_bytes("model.safetensors")

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(open_artifact(f"{self.base}/classes", "classification").read_bytes("predictions.parquet")))

    def equals(self, other: Run) -> bool:
        mine, others = read_features(f"{self.base}/features"), read_features(f"{other.base}/features")
        return (
            self.weights == other.weights
            and bool((mine.dino == others.dino).all())
            and mine.metadata["dino_error"].isna().all()
            and self.predictions.equals(other.predictions)
        )


@pytest.fixture(scope="module")
def fair(s3: Callable[[], str], cells: str, tiny_config: Callable[..., Config]) -> Iterator[Run]:
    """The run that nothing happened to; its bucket has the cells too."""
    bucket = s3()
    for name in storage.list_files(cells):
        storage.upload(Path(cells, name), f"{bucket}/cells/{name}")
    config = tiny_config({"classification.folds": 3, "classification.group": "plate"}, epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)  # its compilation takes longer than all of this
        yield Run(f"{bucket}/fair", config).make(f"{bucket}/cells")


@pytest.fixture
def proxy(fair: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    monkeypatch.setattr(storage_retry, "FIRST_PAUSE", 0.01)
    # A machine that is shared may be slow by itself.
    monkeypatch.setattr(storage_retry, "OBJECT_SECONDS", 3)
    monkeypatch.setattr("dino4cells.storage_s3.READ_SECONDS", 3)
    with faulty_proxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.mark.parametrize("history", range(HISTORIES))
def test_steps_over_a_failing_store_end_as_over_a_sound_one(history: int, fair: Run, proxy: FaultyProxy, tally: Tally) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)

    def choose(request: Request) -> Fault | None:
        if chance.random() > SHARE:
            return None
        fits = [
            fault
            for fault in TRANSIENT
            if (fault not in OF_A_BODY or request.brings_object)
            and (fault is not Fault.CUT_UPLOAD or request.size)
            and (fault not in SLOW or fault not in proxy.made)
        ]
        return chance.choice(fits)

    proxy.choose = choose
    bucket = storage.parent(fair.base)
    with counted_repeats() as repeats:
        run = Run(f"{bucket}/history-{history}", fair.config).make(f"{bucket}/cells")
    proxy.choose = lambda request: None
    made = ", ".join(f"{fault.value}: {count}" for fault, count in proxy.made.items())
    print(f"{len(proxy.seen)} requests, of which failed: {made}; counted as repeated: {dict(repeats)}")
    tally.what = "store: requests of whole steps that failed for the moment"
    is_equal = run.equals(fair)
    for _ in range(proxy.made.total()):
        tally.count(is_equal)
    assert proxy.made.total() > 10
    assert repeats.total() > 0


def fail_after(proxy: FaultyProxy, requests: int, fault: Fault) -> None:
    """Let so many requests through, and then none."""
    end = len(proxy.seen) + requests
    proxy.choose = lambda request: fault if len(proxy.seen) > end else None


def test_an_outage_ends_a_step_which_goes_on_afterwards(
    fair: Run, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    tally.what = "store: an outage in the middle of a step"
    bucket = storage.parent(fair.base)
    run = Run(f"{bucket}/outage", fair.config)
    begins = {"model": 40, "features": 30}
    makers: dict[str, Callable[[], object]] = {
        "model": lambda: steps.train(run.config, data=f"{bucket}/cells", output=f"{run.base}/model"),
        "features": lambda: steps.extract(f"{run.base}/model", config=run.config, data=f"{bucket}/cells", output=f"{run.base}/features"),
    }
    for name, make in makers.items():
        fail_after(proxy, begins[name], Fault.BUSY_503)
        with monkeypatch.context() as patch:
            patch.setattr(storage_retry, "SECONDS", 0.3)
            with pytest.raises(StoreUnavailable, match=rf"^{bucket}/.*: {proxy.url} fails for the moment \(503, "):
                make()
        proxy.choose = lambda request: None
        left_nothing_whole = not is_complete(f"{run.base}/{name}")
        make()
        tally.count(left_nothing_whole)
    steps.classify(f"{run.base}/features", config=run.config, output=f"{run.base}/classes")
    assert run.equals(fair)


def test_credentials_that_are_revoked_end_a_step_with_the_objects_name(fair: Run, proxy: FaultyProxy, tally: Tally) -> None:
    tally.what = "store: credentials revoked in the middle of an extraction"
    bucket = storage.parent(fair.base)
    output = f"{bucket}/revoked/features"
    for limit in (15, 30):
        fail_after(proxy, limit, Fault.DENIED_403)
        with pytest.raises(StorageError, match=rf"^{bucket}/.*: access is denied .*; check the credentials"):
            steps.extract(f"{fair.base}/model", config=fair.config, data=f"{bucket}/cells", output=output)
        proxy.choose = lambda request: None
        tally.count(not is_complete(output))
    steps.extract(f"{fair.base}/model", config=fair.config, data=f"{bucket}/cells", output=output)
    assert (read_features(output).dino == read_features(f"{fair.base}/features").dino).all()


def test_a_command_says_in_the_end_how_many_requests_were_repeated(fair: Run, proxy: FaultyProxy, dino4cells: Callable[..., Any]) -> None:
    proxy.wants = lambda request: request.brings_object
    proxy.next.extend([Fault.BUSY_503, Fault.CUT])
    done = dino4cells("data", "validate", "--data", f"{storage.parent(fair.base)}/cells")
    assert done.code == 0
    (said,) = [text_of(line) for line in done.err.splitlines() if "had to be repeated" in line]
    # A machine that is busy may have let others time out.
    assert re.fullmatch(r"\d+ requests to the store had to be repeated \((?=.*503: 1\b)(?=.*cut: 1\b).*\)\.", said)


READING = """
from dino4cells.data.dataset import CellImages
from dino4cells.data.loading import load_batches
from dino4cells.data.sampler import SampleOrder, SampleStream
from dino4cells.data.source import plain_source
from dino4cells.errors import StorageError

if __name__ == "__main__":
    loader = load_batches(CellImages(plain_source(["s3://lab/a.png"] * 4, 1)), SampleStream(SampleOrder.of_rows(4), 1, 2), workers=1)
    try:
        with iter(loader) as batches:
            next(batches)
    except StorageError as error:
        print(error)
"""


def test_processes_that_read_say_it_in_the_same_sentence(tmp_path: Path) -> None:
    """By a process of its own: those that read have the environment that the first of them found."""
    script = tmp_path / "reading.py"
    script.write_text(READING)
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    environment = {**os.environ, **keys, storage_retry.BUDGET: "0"}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    (said,) = done.stdout.splitlines()
    assert said.startswith("s3://lab/a.png: http://127.0.0.1:9 does not answer (EndpointConnectionError")
