"""What a step of the pipeline is told before it starts anything."""

from __future__ import annotations

import pytest

from dino4cells.cluster.launchers import JobParameters, launch_of
from dino4cells.errors import ConfigError


@pytest.mark.parametrize(
    ("launcher", "parameters", "words"),
    [
        ("local", JobParameters(gpus=1000), "gpus: 1000 are wanted and this machine has"),
        ("local", JobParameters(nodes=2), "nodes: 2 need the launcher 'pytorchjob'"),
        ("local", JobParameters(processes=0), "processes: must be at least 1, not 0"),
        ("pytorchjob", JobParameters(), "launcher: 'pytorchjob' starts pods and this is no step of a pipeline on a cluster"),
        ("slurm", JobParameters(), "launcher: 'slurm' is not known"),
    ],
)
def test_a_step_that_cannot_start_says_so_in_one_sentence(launcher: str, parameters: JobParameters, words: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as raised:
        launch_of(launcher, "/runs/model", "/runs/model", parameters)

    assert words in str(raised.value)


def test_a_step_on_this_machine_writes_where_the_sdk_says_and_does_small_work_itself() -> None:
    launch = launch_of("local", "/runs/model", "/runs/model", JobParameters())

    assert (launch.output, launch.checkpoints, launch.processes, launch.shared) == ("/runs/model", None, None, None)
