"""What torchrun starts in `test_training_torchrun`: a training process as it is, of a small network, that is sooner held to hang."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dino4cells.models import vit
from dino4cells.training import __main__ as training
from dino4cells.training import distributed
from dino4cells.training.presence import Limits

if __name__ == "__main__":
    vit.ARCHITECTURES["vit_tiny"], vit.DEPTH = (24, 3), 2  # type: ignore[misc]  # as in trainings.py
    distributed.Limits = lambda: Limits(every=0.2, silent=5.0)  # type: ignore[assignment, misc]
    pids, rank = Path(sys.argv.pop(1)), os.environ["RANK"]
    (pids / f"{rank}-{len(list(pids.glob(f'{rank}-*')))}").write_text(str(os.getpid()))  # whoever started it again
    training.main()
