"""Two runs with one output: one writes it; the other is refused, or waits until a killed one's lease expires; none writes after another."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from dino4cells import steps, storage
from dino4cells.artifacts import open_artifact
from dino4cells.config import Config
from dino4cells.data.metadata import read_metadata
from dino4cells.lease import Holder, LeaseLost, OutputInUse, Patience, held, lease_url
from dino4cells.training import checkpoint as checkpoints
from dino4cells.training.checkpoint import CheckpointWriter
from dino4cells.training.fit import fit
from dino4cells.training.loop import DINO
from tests.integration.training_alone import ALONE
from tests.tally import Tally

SHORT = Patience(first=0.05, every=0.1, expires=0.6, look=0.05)
LIVING = replace(SHORT, expires=60.0)  # on a busy machine a living holder may give no sign for longer than the other's limit


@pytest.fixture(params=["file", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an artifact goes, on this machine and in a store."""
    return str(tmp_path / "model") if request.param == "file" else f"{request.getfixturevalue('s3')()}/runs/model"


def elsewhere(output: str, **changes: object) -> Holder:
    """A lease of a process on another machine."""
    holder = replace(Holder.here(), **{"owner": "other", "host": "node-7", "process": 42, "machine": "another", **changes})
    storage.write_text(lease_url(output), holder.text())
    return holder


def test_a_lease_is_beside_the_output_under_a_name_of_its_own_while_it_is_held(output: str) -> None:
    with held(output, SHORT) as lease:
        assert storage.exists(lease_url(output))
        assert not storage.name(lease_url(output)).startswith(storage.name(output))
        lease.confirm()
    assert not storage.exists(lease_url(output))
    assert not storage.exists(output)


def test_a_second_run_on_this_machine_is_refused_at_once_with_who_writes(output: str) -> None:
    with (
        held(output),
        pytest.raises(OutputInUse, match=rf"model: another run writes it \(process {os.getpid()} on \S+, since 20"),
        held(output),
    ):
        pass


def test_a_second_run_elsewhere_is_refused_when_the_first_gives_a_sign_of_life(output: str) -> None:
    holder = elsewhere(output)

    def give_sign() -> None:
        storage.write_text(lease_url(output), replace(holder, sign=1).text())

    signs = threading.Timer(0.2, give_sign)
    signs.start()
    with pytest.raises(OutputInUse, match="process 42 on node-7"), held(output, LIVING):
        pass
    signs.join()
    assert Holder.read(storage.read_text(lease_url(output))).owner == "other"


def test_the_lease_of_a_run_that_is_gone_expires(output: str, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere(output)
    began = time.monotonic()
    with held(output, SHORT) as lease:
        assert time.monotonic() - began >= SHORT.expires
        lease.confirm()
    assert "another run has begun to write it (process 42 on node-7" in caplog.text


def test_a_restarted_pod_of_the_same_job_does_not_wait(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "dino-1f2e-master-0")
    elsewhere(output, job="dino-1f2e")
    with held(output, LIVING) as lease:
        lease.confirm()


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"owner": 3}'])
def test_an_object_that_is_no_lease_expires_too(content: str, tmp_path: Path) -> None:
    output = str(tmp_path / "model")
    storage.write_text(lease_url(output), content)
    with held(output, SHORT) as lease:
        lease.confirm()


def hold_and_be_killed(output: str) -> None:
    with held(output):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_same_command_again_does_not_wait_for_its_killed_run(output: str) -> None:
    child = multiprocessing.get_context("fork").Process(target=hold_and_be_killed, args=(output,)) if storage.is_local(output) else None
    if child is None:
        # s3fs does not survive a fork: what a killed process of this machine leaves is written for it.
        elsewhere(output, machine=Holder.here().machine, process=2**22 + 1)
    else:
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    assert storage.exists(lease_url(output))
    began = time.monotonic()
    with held(output):
        assert time.monotonic() - began < Patience().expires / 2


def test_a_process_number_that_was_given_again_is_no_holder(tmp_path: Path) -> None:
    output = str(tmp_path / "model")
    here = Holder.here()
    elsewhere(output, machine=here.machine, process=os.getppid(), started="1")
    with held(output, SHORT):
        pass
    assert json.loads(here.text())["process"] == os.getpid()


def test_of_many_that_begin_in_the_same_instant_one_goes_on(output: str, tally: Tally) -> None:
    tally.what = "runs that want one output in the same instant: at most one goes on"
    dice = random.Random(0)
    for _ in range(5):
        inside, most, lock = 0, 0, threading.Lock()
        begin, begun = threading.Barrier(4), threading.Barrier(4)

        def run(delay: float, begin: threading.Barrier = begin, begun: threading.Barrier = begun, lock: threading.Lock = lock) -> str:
            nonlocal inside, most
            begin.wait()
            time.sleep(delay)
            try:
                with held(output, LIVING) as lease:
                    begun.wait(60)  # all have taken it or were refused: who comes later is in no race
                    time.sleep(6 * SHORT.every)  # the first steps, before anything is written
                    lease.confirm()
                    with lock:
                        inside += 1
                        most = max(most, inside)
                    time.sleep(3 * SHORT.every)
                    with lock:
                        inside -= 1
            except OutputInUse:
                begun.wait(60)
                return "refused"
            except LeaseLost:
                return "lost"
            return "done"

        with ThreadPoolExecutor(4) as threads:
            ended = list(threads.map(run, [dice.choice((0.0, 0.001)) for _ in range(4)]))
        tally.count(most <= 1 and ended.count("done") == 1)
        storage.remove(lease_url(output))


def test_a_holder_that_was_asleep_finds_out_before_it_writes(output: str) -> None:
    def write() -> None:
        with held(output, replace(SHORT, first=60.0)) as lease:
            elsewhere(output)  # meanwhile another run took it over
            with CheckpointWriter(f"{output}.checkpoints", lease) as writer:
                writer.save({"samples_seen": 8})

    with pytest.raises(LeaseLost, match=r"model: another run \(process 42 on node-7"):
        write()
    assert not storage.exists(f"{output}.checkpoints")
    assert Holder.read(storage.read_text(lease_url(output))).owner == "other"  # whose it stays


def test_a_holder_learns_of_its_loss_from_its_own_signs_of_life(output: str) -> None:
    with pytest.raises(LeaseLost), held(output, SHORT) as lease:  # noqa: PT012
        until = time.monotonic() + 60
        while time.monotonic() < until:
            elsewhere(output)  # again and again: in a store the first may fall between this holder's look and its own sign
            lease.check()
            time.sleep(0.02)


# Training


def test_a_training_is_refused_where_another_one_writes_and_leaves_all_as_it_was(
    cells: str, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    output = str(tmp_path / "model")
    checkpoints.save(f"{output}.checkpoints", {"samples_seen": 8})
    before = Path(f"{output}.checkpoints/checkpoint-000000000008.pth").read_bytes()
    with held(output), pytest.raises(OutputInUse):
        steps.train(tiny_config(), data=cells, output=output)
    assert Path(f"{output}.checkpoints/checkpoint-000000000008.pth").read_bytes() == before
    assert not Path(output).exists()


def test_a_training_whose_output_another_one_took_writes_no_artifact(
    cells: str, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    output, config, metadata = str(tmp_path / "model"), tiny_config(epochs=1), read_metadata(cells)

    def lose(network: DINO, seen: int, seconds: float) -> None:
        if seen == 24:  # the last step
            elsewhere(output)

    with pytest.raises(LeaseLost), held(output, replace(SHORT, first=60.0)) as lease:
        fit(config, metadata, output, ALONE, resume_directory=f"{output}.checkpoints", lease=lease, on_record=lose)
    assert not Path(output).exists()


def test_a_run_that_was_killed_when_it_cleaned_up_is_cleaned_up_after(
    cells: str, tiny_config: Callable[..., Config], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, config = str(tmp_path / "model"), tiny_config(epochs=1)
    card = steps.train(config, data=cells, output=output)
    before = open_artifact(output, "model").manifest
    elsewhere(output, machine=Holder.here().machine, process=2**22 + 1)
    checkpoints.save(f"{output}.checkpoints", {"samples_seen": 8})
    with caplog.at_level(logging.INFO):
        assert steps.train(config, data=cells, output=output) == card
    assert open_artifact(output, "model").manifest == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
