"""`torch.compile` for the networks of a run, where the configuration asks for it."""

from __future__ import annotations

import torch

from dino4cells.errors import ConfigError
from dino4cells.models.head import DINONetwork


def compile_backbones(device: torch.device, *networks: DINONetwork) -> None:
    """Let the backbones be compiled at their first use, in place: names and parameters stay.

    Raises:
        ConfigError: nothing can be compiled here; found out on a sum, before the data are read.
    """
    try:
        torch.compile(lambda tensor: tensor + 1)(torch.zeros(2, device=device))
    except RuntimeError as error:
        reason = next(line.strip().rstrip(".") for line in str(error).splitlines() if line.strip())
        needed = "a C++ compiler (g++) and Python's headers" if device.type == "cpu" else "Triton and a C compiler"
        raise ConfigError(f"model.compile: torch.compile does not work here ({reason}); install {needed}, or set it to false.") from error
    for network in networks:
        network.backbone.compile()
