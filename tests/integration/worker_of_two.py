"""What each of two processes does in `test_two_processes.py`; torchrun starts it there, pytest does not collect it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from dino4cells.cluster.entry import process_of_a_job
from dino4cells.config import load_config
from dino4cells.data.dataset import CellImages
from dino4cells.data.metadata import read_metadata
from dino4cells.data.source import plain_source
from dino4cells.data.statistics import Moments
from dino4cells.training.batch_norm import SynchronizedBatchNorm
from dino4cells.training.distributed import ProcessGroup, gather_from_ranks, process_group
from dino4cells.training.fit import fit
from dino4cells.training.loop import DINO
from dino4cells.training.schedules import Schedules
from dino4cells.training.targets import CentringTargets, SinkhornTargets

# Images of the first process; the others are the second's.
UNEQUAL = ((range(0, 5), range(5, 8)), (range(8, 12), range(0)), (range(12, 13), range(13, 20)))


RUNS = ("centering", "sinkhorn", "batch-norm", "drawn", "given-weights")


def table_of(directory: Path, run: str) -> str:
    """The table of cells that a run trains on."""
    return str(directory / "data" / ("classes.csv" if run == "drawn" else "metadata.csv"))


def teacher_logits(step: int, batch: int = 7, prototypes: int = 32) -> torch.Tensor:
    """The same whole batch of logits in every process."""
    return torch.rand(2, batch, prototypes, generator=torch.Generator().manual_seed(step)) * 2 - 1


def shares(whole: torch.Tensor, first: int) -> list[torch.Tensor]:
    """What each of two processes has of a batch."""
    return [whole[:, :first], whole[:, first:]]


def normalize(norm: torch.nn.Module, first: int, rank: int | None) -> dict[str, torch.Tensor]:
    """A batch norm after a forward and a backward pass over a process's share of a batch of seven, or over all of it."""
    noise = torch.randn(2, 7, 3, 2, 2, generator=torch.Generator().manual_seed(first))
    mine = noise if rank is None else shares(noise, first)[rank]
    inputs, direction = (3 * mine[0] + 5).requires_grad_(), mine[1]
    outputs = norm(inputs)
    (outputs * direction).sum().backward()
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return {"outputs": outputs.detach(), "inputs": inputs.grad, **gradients, **dict(norm.named_buffers())}


def train_unequal(directory: Path, group: ProcessGroup, together: bool, name: str = "unequal") -> dict[str, torch.Tensor]:
    """The student after steps on batches of unequal size, or, in one process, on both batches together."""
    config = load_config(str(directory / f"{name}.yaml"))
    network = DINO(config, 4, Schedules.from_config(config.model, 24, 48, 8), group)
    images = CellImages(plain_source(read_metadata(str(directory / "data")).urls, 4))
    losses = []
    for step, (first, second) in enumerate(UNEQUAL):
        mine = [*first, *second] if together else (first, second)[group.rank]
        losses.append(network.step(images.__getitems__([(0, index) for index in mine]), 8 * step))
    teacher = {f"teacher.{name}": value for name, value in network.teacher.state_dict().items()}
    return {"losses": torch.stack(losses), "center": network.targets.center, **teacher, **network.student.state_dict()}


def refused(*given: object) -> Moments:
    raise AssertionError("the data were measured by the second process too, which may come to other numbers")


def main() -> None:
    """Everything that needs two processes, since starting them costs more than what they do."""
    directory = Path(sys.argv[1])
    results: dict[str, object] = {}
    with process_group("cpu") as group:
        centring = CentringTargets(32, momentum=0.9)
        for step, first in enumerate((5, 2, 7)):
            centring(shares(teacher_logits(step), first)[group.rank], 0.04)
            centring.settle()
        results["center"] = centring.center
        for first in (4, 3, 0):
            targets = SinkhornTargets(32)(shares(teacher_logits(0, 8), first)[group.rank], 0.04)
            results[f"sinkhorn-{first}"] = torch.cat(gather_from_ranks(targets), dim=1)
        for first in (4, 1, 0):
            results[f"batch-norm-{first}"] = gather_from_ranks(normalize(SynchronizedBatchNorm(3), first, group.rank))
        results["unequal-batch-norm"] = train_unequal(directory, group, together=False, name="unequal-batch-norm")
        results["unequal"] = train_unequal(directory, group, together=False)
        results["students"] = gather_from_ranks(
            {f"{kind}.{name}": value.sum().item() for kind in ("unequal", "unequal-batch-norm") for name, value in results[kind].items()}  # type: ignore[attr-defined]
        )
        if group.is_first:
            torch.save(results, directory / "results.pt")
        if not group.is_first:
            Moments.of = refused  # type: ignore[method-assign]
        for name in RUNS:
            config, output = load_config(str(directory / f"{name}.yaml")), str(directory / f"{name}-2")
            fit(config, read_metadata(table_of(directory, name)), output, group, resume_directory=f"{output}.checkpoints")


if __name__ == "__main__":
    with process_of_a_job():
        main()
