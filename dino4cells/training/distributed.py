"""The processes of a job: who am I, on which device, and sums over all of us.

torchrun tells every process its place by environment variables; without them a run is one process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from dino4cells.cores import available_cores
from dino4cells.errors import ConfigError, Dino4CellsError
from dino4cells.training.meeting import meet
from dino4cells.training.presence import Limits, Presence, end_process

# For a sum over processes, in which a process that hangs is found before (`presence`); less than a launcher waits for a line of log.
TIMEOUT = timedelta(minutes=30)
logger = logging.getLogger(__name__)
Value = TypeVar("Value")


@dataclass(frozen=True)
class ProcessGroup:
    """This process among the processes of the job.

    Attributes:
        rank: 0 … world_size − 1; rank 0 writes.
        local_rank: place on this machine, which is the number of its GPU.
        device: where this process computes.
        presence: by which the others see what this process does; None where there are no others.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device
    presence: Presence | None = None

    @property
    def is_first(self) -> bool:
        """True in the one process that writes files and draws progress."""
        return self.rank == 0

    def doing(self, what: str) -> None:
        """Tell the other processes what this one does from now on; nothing for what may take any time."""
        if self.presence is not None:
            self.presence.doing(what)


@contextmanager
def process_group(
    device: str = "auto", *, at_hang: Callable[[str], object] = end_process, limits: Limits | None = None
) -> Iterator[ProcessGroup]:
    """Join the job that torchrun started (NCCL on GPUs, gloo on CPU), or be one process; leave it at the end.

    Args:
        device: `auto` (GPUs where there is one for each process of this machine), `cpu` or `cuda`.
        at_hang: ends this process, and is given the reason, when one of the processes hangs (`presence`).
        limits: of the time for which a process may give no sign of life; the usual ones when None.

    Raises:
        ConfigError: `cuda`, and fewer GPUs than processes.
    """
    places = (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    rank, world_size, local_rank = (int(os.environ.get(name, default)) for name, default in places)
    here = device_of(device, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    use_gpu = here.type == "cuda"
    if use_gpu:
        torch.cuda.set_device(here)
    elif world_size == 1 and not os.environ.get("OMP_NUM_THREADS"):  # which PyTorch has taken over
        torch.set_num_threads(available_cores())
    if world_size == 1:
        yield ProcessGroup(rank, world_size, local_rank, here)
        return
    store, _, _ = next(rendezvous("env://", rank, world_size, timeout=TIMEOUT))
    start = meet(store, rank, world_size, TIMEOUT)
    # Before the processes connect to each other, for which one may wait as well.
    presence = Presence(rank, world_size, PrefixStore(start, store.clone()), limits or Limits(), at_hang)
    presence.start()
    try:
        dist.init_process_group(
            "nccl" if use_gpu else "gloo",
            store=PrefixStore(f"{start}/group", store),
            rank=rank,
            world_size=world_size,
            timeout=TIMEOUT,
            device_id=here if use_gpu else None,
        )
        yield ProcessGroup(rank, world_size, local_rank, here, presence)
    finally:
        presence.leave()
        if dist.is_initialized():
            dist.destroy_process_group()


def device_of(device: str, local_rank: int, processes: int) -> torch.device:
    """Where the process `local_rank` of this machine's `processes` computes; `device` as in `process_group`."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and gpus < processes:
        raise ConfigError(
            f"device: 'cuda' is asked for, and PyTorch finds {gpus} GPUs for {processes} processes on this machine; "
            "start as many processes as there are GPUs, check the driver (nvidia-smi), or compute on the CPU."
        )
    if device == "cpu" or gpus < processes:
        if gpus and device == "auto" and local_rank == 0:
            logger.warning("%s processes cannot share %s GPU and compute on the CPU; --processes %s uses it.", processes, gpus, gpus)
        return torch.device("cpu")
    return torch.device("cuda", local_rank)


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of `tensor` over all processes, in place; the tensor itself without a process group."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def start_sum_over_ranks(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Begin to sum `tensor` over all processes, in place, while this one goes on.

    Every process begins its sums in one order. On GPUs nothing waits but the stream that the result is asked on.

    Returns:
        A function that waits and gives the sum, which is `sum_over_ranks`'s.
    """
    work = dist.all_reduce(tensor, async_op=True) if dist.is_initialized() else None

    def wait() -> torch.Tensor:
        if work is not None:
            work.wait()
        return tensor

    return wait


def max_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum of `tensor` over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def gather_from_ranks(value: Value) -> list[Value]:
    """`value` of every process in the order of ranks, known to all of them."""
    if not dist.is_initialized():
        return [value]
    gathered = [value] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def first_decides(decide: Callable[[], Value]) -> Value:
    """What the first process finds out, known to all of them; a mistake that it meets is raised in all of them.

    Args:
        decide: called in the first process alone.
    """
    if not dist.is_initialized():
        return decide()
    told: list[tuple[Value | None, Dino4CellsError | None]] = [(None, None)]
    if dist.get_rank() == 0:
        try:
            told = [(decide(), None)]
        except Dino4CellsError as error:
            told = [(None, error)]
    dist.broadcast_object_list(told)
    value, mistake = told[0]
    if mistake is not None:
        raise mistake
    return cast(Value, value)
