"""The arithmetic of a run: which type its matrix products are in."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from dino4cells.config.architectures import VISION_TRANSFORMERS
from dino4cells.errors import ConfigError


def autocast_type(precision: str, device: torch.device, arch: str) -> torch.dtype:
    """The arithmetic of matrix products: bfloat16 where asked for or, with `auto`, where the hardware computes in it; else float32.

    Convolutional networks compute in float32 on a CPU: PyTorch's 3×3 convolution with stride 2 leaves gradients of its weights unset in
    bfloat16 where its input is one pixel, as it is in the last stage of a ResNet for views of up to 16 px (seen in PyTorch 2.14).

    Raises:
        ConfigError: bfloat16 is asked for where it gives wrong gradients.
    """
    if device.type == "cpu" and arch not in VISION_TRANSFORMERS:
        if precision == "bfloat16":
            raise ConfigError(f"model.precision: {arch} cannot be trained in bfloat16 on a CPU; use auto or float32, or a GPU.")
        return torch.float32
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def mixed_precision(device: torch.device, precision: torch.dtype) -> torch.autocast | nullcontext[None]:
    """The context in which matrix products are computed in `precision`, and what is sensitive to it in float32."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, dtype=precision)


def describe(device: torch.device, precision: torch.dtype) -> str:
    """One line for the log: arithmetic, device, and on a CPU the threads."""
    arithmetic = "float32" if precision == torch.float32 else "bfloat16 products, float32 softmax, centre and loss"
    threads = torch.get_num_threads()
    processor = f"CPU, {threads} thread{'s' * (threads > 1)} a process"
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    return f"{arithmetic}; {place}"
