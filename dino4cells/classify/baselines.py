"""What a head is compared with: guessing, and a linear probe on the same features.

Dimensions: N cells, D features, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from dino4cells.classify.labels import Task
from dino4cells.classify.probe import linear_probe
from dino4cells.classify.scores import Floats

GUESSING, PROBE = "guessing", "linear_probe"
PROBED_CELLS = 10_000
"""Training cells that the linear probe sees at most: a random part of them, so that a baseline takes a minute at most."""
SURE = 20.0


def guesses(task: Task, train_NK: Floats, cells: int) -> Floats:
    """Logits (N, K) that know nothing of a cell: the most frequent class of the training cells; of several labels, every one.

    The average precision of a label is then the share of cells that have it, and its F1 the best that a constant can have.
    """
    shares_K = train_NK.mean(axis=0)
    constant_K = np.ones_like(shares_K) if task.several else np.where(np.arange(len(shares_K)) == shares_K.argmax(), 1, -1)
    return np.tile(constant_K, (cells, 1)).astype(np.float32)


class ProbeBaseline:
    """A linear probe of the head's training cells: of one class a cell, or one for each label.

    Args:
        task: what is predicted.
        values_ND: features of the training cells.
        targets_NK: their labels.
        seed: of the choice of cells, where there are many.
        class_weights: as those of the head.
    """

    def __init__(self, task: Task, values_ND: NDArray[np.float32], targets_NK: Floats, seed: int, class_weights: str = "none") -> None:
        self.task = task
        chosen = np.random.default_rng(seed).permutation(len(values_ND))[:PROBED_CELLS]
        values_ND, targets_NK = values_ND[chosen].astype(np.float64), targets_NK[chosen]
        columns_KN = targets_NK.T if task.several else [targets_NK.argmax(axis=1)]
        self._constant = [column_N[0] if len(np.unique(column_N)) == 1 else None for column_N in columns_KN]
        self._probes = [
            None if constant is not None else linear_probe(class_weights=class_weights).fit(values_ND, column_N)
            for column_N, constant in zip(columns_KN, self._constant, strict=True)
        ]

    def logits(self, values_ND: NDArray[np.float32]) -> Floats:
        """(N, K) of the features of other cells."""
        rows = values_ND.astype(np.float64)
        logits_NK = np.full((len(rows), len(self.task.classes)), -SURE, np.float32)
        for place, (probe, constant) in enumerate(zip(self._probes, self._constant, strict=True)):
            if self.task.several:
                logits_NK[:, place] = (SURE if constant else -SURE) if probe is None else probe.decision_function(rows)
            elif probe is None:
                logits_NK[:, int(constant or 0)] = SURE
            else:
                # Of each class against the rest, as a head's: above 0 where it is more probable than not.
                likely = logit(probe.predict_proba(rows))
                logits_NK[:, probe.classes_.astype(int)] = likely.clip(-SURE, SURE)
        return logits_NK
