"""What a classifier says of cells: computed by all processes together, each a share.

Dimensions: N cells, K classes, D features, B batch.
"""

from __future__ import annotations

import numpy as np
import torch

from dino4cells.classify.classifier import Classifier
from dino4cells.classify.inputs import Inputs
from dino4cells.classify.scores import Floats
from dino4cells.training.distributed import ProcessGroup, gather_from_ranks
from dino4cells.training.precision import mixed_precision


def logits_of(classifier: Classifier, inputs: Inputs, classes: int, group: ProcessGroup, precision: torch.dtype = torch.float32) -> Floats:
    """Logits (N, K) of all cells, known to every process; NaN where an image cannot be read."""
    classifier.eval()
    bounds = np.linspace(0, len(inputs), group.world_size + 1).round().astype(int)
    start, stop = int(bounds[group.rank]), int(bounds[group.rank + 1])
    logits_NK = np.full((stop - start, classes), np.nan, np.float32)
    with torch.no_grad(), mixed_precision(group.device, precision):
        for features_BD, rows_B in inputs.features(classifier, start, stop):
            logits_NK[rows_B.cpu().numpy() - start] = classifier.of_features(features_BD).cpu().numpy()
    return np.concatenate(gather_from_ranks(logits_NK))
