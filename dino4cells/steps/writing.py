"""One run at a time writes an output, whatever the step and the number of its processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from dino4cells.lease import Lease, held
from dino4cells.training.distributed import first_decides


@contextmanager
def sole_writer(output: str, check: Callable[[], None] | None = None) -> Iterator[Lease | None]:
    """Hold the lease of an output: the first process takes it for all of them, and all are refused together; None in the others.

    Args:
        output: URL of an artifact or a file.
        check: called before, in the first process alone.

    Raises:
        Dino4CellsError: another run writes it (`lease.held`), or what `check` raises.
    """
    with ExitStack() as stack:
        taken: list[Lease] = []

        def take() -> None:
            if check is not None:
                check()
            taken.append(stack.enter_context(held(output)))

        first_decides(take)
        yield taken[0] if taken else None
