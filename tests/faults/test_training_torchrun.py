"""A job of two real processes under torchrun: one is killed, later one is stopped, and torchrun starts both again from the checkpoint."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dino4cells.config import Config
from dino4cells.events import text_of
from tests.faults.test_training_histories import SEED, same_bits
from tests.faults.trainings import Nursery
from tests.tally import Tally

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SECONDS = 240


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[str], what: str) -> None:
    """Return when something is seen, while the job runs."""
    until = time.monotonic() + SECONDS
    while not seen():
        assert process.poll() is None, f"{what}: the job has ended with {process.returncode}"
        assert time.monotonic() < until, what
        time.sleep(0.01)


def test_torchrun_starts_a_job_again_whose_process_is_killed_or_hangs(
    tiny_config: Callable[..., Config], cells: str, tmp_path: Path, tally: Tally
) -> None:
    tally.what = "a rank of torchrun's killed, or stopped and named: the job starts again, same weights"
    print(f"DINO4CELLS_SEED={SEED}")
    dice, epochs = random.Random(SEED), 20
    config = tiny_config(checkpoint_minutes=1e-6, drop_path_rate=0.1, epochs=epochs, saveckp_freq=0).to_yaml()
    with Nursery(tmp_path / "notes") as nursery:
        assert nursery.train(config, cells, tmp_path / "whole", processes=2).codes == (0, 0)

    output, saved, log = tmp_path / "model", tmp_path / "model.checkpoints", tmp_path / "log"
    (tmp_path / "pids").mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=2"]
    command += [str(HERE / "small_training.py"), str(tmp_path / "pids"), "--config-text", config, "--data", cells, "--output", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with log.open("w") as told:
        process = subprocess.Popen([*command, "--device", "cpu"], env=environment, stdout=told, stderr=told, text=True)

    def seen() -> int:
        return max((int(path.stem.removeprefix("checkpoint-")) for path in saved.glob("checkpoint-*.pth")), default=0)

    def pid(rank: int, start: int) -> int:
        return int((tmp_path / "pids" / f"{rank}-{start}").read_text())

    try:
        killed, stopped = dice.randrange(2), dice.randrange(2)
        total = 24 * epochs
        first, second = dice.randrange(8, total // 3), dice.randrange(total // 3 + 64, 2 * total // 3)
        wait_for(lambda: seen() >= first, process, "the first steps")
        os.kill(pid(killed, 0), signal.SIGKILL)
        wait_for(lambda: (tmp_path / "pids" / "0-1").exists() and seen() >= second, process, "going on after a kill")
        tally.count("Continuing after" in log.read_text())

        os.kill(pid(stopped, 1), signal.SIGSTOP)
        at = time.monotonic()
        name = (
            rf"rank {stopped} \(process {pid(stopped, 1)} on \S+\) has given no sign of life since \d\d:\d\d:\d\d, \w+ing .* after [\d,]+"
        )
        wait_for(lambda: re.search(name, log.read_text()) is not None, process, f"the name of the rank that hangs: {name}")
        noticed = time.monotonic() - at
        os.kill(pid(stopped, 1), signal.SIGCONT)  # else torchrun waits 30 seconds before it kills it
        tally.count(noticed < 30)
        assert process.wait(SECONDS) == 0
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    text = "\n".join(text_of(line) for line in log.read_text().splitlines())
    assert text.count("Continuing after") == 2, text
    tally.count(same_bits(output, tmp_path / "whole"))
    assert sorted(path.name for path in tmp_path.glob("*model*")) == ["model"]
