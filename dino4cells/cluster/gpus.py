"""The GPUs that a command asks for, held against those of this machine."""

from __future__ import annotations

import os

from dino4cells.errors import ConfigError


def gpus_of(text: str) -> tuple[int, ...]:
    """The numbers in `0,1` as PyTorch counts the GPUs of this machine; empty text means none was asked for.

    Raises:
        ConfigError: no list of different numbers, or a GPU that this machine does not have.
    """
    if not text:
        return ()
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ConfigError(f"--gpus: '{text}' is no list of different GPU numbers; write for example --gpus 0,1.")

    import torch  # here, so that help and version stay quick

    count = torch.cuda.device_count()
    if not count:
        raise ConfigError(
            f"--gpus: {text} cannot be used, since PyTorch finds no GPU on this machine; "
            "leave the option out to compute on the CPU, or check the driver (nvidia-smi) and PyTorch's CUDA version."
        )
    if max(numbers) >= count:
        there = "only GPU 0" if count == 1 else f"GPUs 0 to {count - 1}"
        raise ConfigError(f"--gpus: there is no GPU {max(numbers)} on this machine, which has {there}; correct the list.")
    return numbers


def visible_devices(numbers: tuple[int, ...]) -> str:
    """`CUDA_VISIBLE_DEVICES` for these GPUs, where this process may itself see only some of the machine's."""
    mine = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return ",".join(mine[number] if mine else str(number) for number in numbers)
