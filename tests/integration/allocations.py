"""What a computation allocates, for tests of claims about memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Notes type and number of elements of every storage that operations make while it is entered, and their names."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[torch.dtype, int]] = []
        self.names: list[str] = []
        self._known: dict[int, torch.UntypedStorage] = {}  # held, so that no other gets the same address

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._known.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage())
        result = func(*args, **(kwargs or {}))
        self.names.append(str(func))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self._known:
                self._known[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
                self.sizes.append((tensor.dtype, tensor.untyped_storage().nbytes() // tensor.element_size()))
        return result
