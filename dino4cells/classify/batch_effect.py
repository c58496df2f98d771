"""How well the features tell the group of a cell (plate, donor, batch), which they had better not, beside how well they tell its class.

Dimensions: N cells, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dino4cells.classify.crossval import cross_validate
from dino4cells.classify.metrics import score
from dino4cells.classify.splits import make_folds
from dino4cells.errors import DataError

MOST_CELLS = 20_000
"""Cells that groups are predicted of; more would change the second decimal."""


@dataclass(frozen=True)
class BatchEffect:
    """Balanced accuracy of the group by nearest neighbours, cells split at random.

    Attributes:
        group_name: column of the groups.
        groups: number of groups that could be judged.
        cells: number of cells that were.
        scores: feature set → balanced accuracy.
        chance: of guessing.
        by_class: of who knows the class of each cell and nothing else: above chance where groups hold different classes.
    """

    group_name: str
    groups: int
    cells: int
    scores: dict[str, float]
    chance: float
    by_class: float

    @property
    def excess(self) -> float:
        """Of the trained features: 0 where they tell no more than the class does, 1 where they tell the group of every cell."""
        floor = max(self.chance, self.by_class)
        return max(0.0, (next(iter(self.scores.values())) - floor) / (1 - floor)) if floor < 1 else 0.0


def batch_effect(
    sets: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, group_name: str, neighbours: int = 10
) -> BatchEffect | None:
    """Predict the group of each cell from every set of features.

    Args:
        sets: name → (N, D) float, finite; the trained features first; `intensity` is brought to one scale.
        labels, groups: (N,) str.
        group_name: column of the groups.
        neighbours: k.

    Returns:
        None where there are fewer than two groups of five cells.

    Example:
        >>> plates = np.asarray(["P1", "P2"] * 20)
        >>> found = batch_effect({"trained": np.eye(2)[np.arange(40) % 2]}, np.asarray(["a"] * 40), plates, "plate")
        >>> found.scores, found.chance, found.excess
        ({'trained': 1.0}, 0.5, 1.0)
    """
    some = np.arange(len(labels))
    if len(some) > MOST_CELLS:
        some = np.sort(np.random.default_rng(0).choice(some, MOST_CELLS, replace=False))
    names = np.asarray(groups)[some]
    try:
        folds = make_folds(names, label_name=group_name)
    except DataError:
        return None
    judged = folds.judged
    results = {
        name: cross_validate(values[some], names, folds, "knn", neighbours, standardize=name == "intensity")
        for name, values in sets.items()
    }
    present = len(np.unique(names[judged]))
    return BatchEffect(
        group_name=group_name,
        groups=present,
        cells=len(judged),
        scores={name: result.pooled.balanced_accuracy for name, result in results.items()},
        chance=1 / present,
        by_class=_by_class(np.asarray(labels)[some][judged], names[judged]),
    )


def _by_class(labels: np.ndarray, groups: np.ndarray) -> float:
    """Balanced accuracy of the group in which a cell's class has the largest share of the group's cells."""
    classes, class_codes = np.unique(labels, return_inverse=True)
    names, codes = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(classes), len(names)))
    np.add.at(counts, (class_codes, codes), 1)
    shares = counts / counts.sum(axis=0)
    return score(groups, names[shares.argmax(axis=1)[class_codes]]).balanced_accuracy
