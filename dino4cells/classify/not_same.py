"""The nearest neighbour that is not the same compound (or plate): how well profiles find their mechanism elsewhere.

Each profile is given the class of its nearest neighbour by cosine among those that differ from it in every named column: with the compound,
NSC (Ljosa et al. 2013, "Comparison of Methods for Image-Based Profiling of Cellular Morphological Responses to Small-Molecule Treatment",
J Biomol Screen 18:1321); with the compound and the batch or plate, NSCB (Ando et al. 2017, "Improving Phenotypic Measurements in
High-Content Imaging Screens", bioRxiv 161422). Neither a compound's own replicates nor what a plate has in common can then help.

Dimensions: N profiles, J of them judged, D features, A columns, Q queries at once, M references at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from dino4cells.classify.bootstrap import Difference, Draws, Interval, Resamples, interval
from dino4cells.errors import DataError

QUERIES, REFERENCES = 1024, 8192
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class NotSame:
    """The score of one set of features.

    Attributes:
        accuracy: share of the judged profiles whose neighbour has their class.
        interval: of it, 95 % by bootstrap.
        neighbour_N: row of every profile's neighbour; −1 where none is judged.
        differences: baseline → by how much these features are better; of the trained ones.
    """

    accuracy: float
    interval: Interval
    neighbour_N: Numbers
    differences: dict[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class NotSameTask:
    """Profiles whose neighbours are sought, the same for all features that are compared.

    Attributes:
        columns: names of the columns in which neighbours differ.
        classes_N, columns_AN: the values as numbers.
        judged_N: whether some other profile that differs in all columns has the class; nobody could find one otherwise.
        chance: share that a neighbour drawn at random among those that may be has the class.
        resamples: of the judged profiles.
    """

    columns: tuple[str, ...]
    classes_N: Numbers
    columns_AN: Numbers
    judged_N: NDArray[np.bool_]
    chance: float
    resamples: Resamples

    @classmethod
    def of(
        cls,
        labels_N: NDArray[np.str_],
        values: Sequence[NDArray[np.str_]],
        columns: Sequence[str],
        groups_N: NDArray[np.str_] | None = None,
        group_name: str = "group",
        seed: int = 0,
    ) -> NotSameTask:
        """What is asked of profiles.

        Args:
            labels_N: class of every profile, such as its mechanism.
            values: of each column, (N,).
            columns: their names.
            groups_N: what resamples draw; the values of the first column when None, since a compound's profiles succeed or fail together.
            group_name: its name, to be told.
            seed: of the resamples.

        Raises:
            DataError: no profile has a class that also occurs where every column differs.
        """
        classes_N = pd.factorize(labels_N)[0].astype(np.int64)
        columns_AN = np.stack([pd.factorize(given)[0] for given in values]).astype(np.int64)
        allowed_N = _differing(columns_AN)
        right_N = _differing(columns_AN, classes_N)
        judged_N = right_N > 0
        if not judged_N.any():
            raise DataError(
                f"classification.not_same: no class occurs in two profiles that differ in {' and '.join(columns)}, so that no neighbour "
                "could be right; name other columns, or other classes by --label."
            )
        drawn, name = (values[0], columns[0]) if groups_N is None else (groups_N, group_name)
        resamples = Resamples.of(int(judged_N.sum()), np.asarray(drawn)[judged_N], name, seed)
        chance = float((right_N[judged_N] / allowed_N[judged_N]).mean())
        return cls(tuple(columns), classes_N, columns_AN, judged_N, chance, resamples)

    def judge(self, profiles_ND: NDArray[np.floating]) -> tuple[NotSame, Draws]:
        """The score of features, and what it is in every resample."""
        return self.score(self.nearest(profiles_ND))

    def nearest(self, profiles_ND: NDArray[np.floating]) -> Numbers:
        """(N,) row of the most similar profile that differs in all columns; -1 where it is not asked for."""
        neighbour_N = np.full(len(profiles_ND), -1, np.int64)
        rows_J = np.flatnonzero(self.judged_N)
        neighbour_N[rows_J] = self._nearest(profiles_ND, rows_J)
        return neighbour_N

    def score(self, neighbour_N: Numbers) -> tuple[NotSame, Draws]:
        """The score of features that have these neighbours, and what it is in every resample."""
        rows_J = np.flatnonzero(self.judged_N)
        right_J = self.classes_N[neighbour_N[rows_J]] == self.classes_N[rows_J]
        everything = np.zeros(len(rows_J), np.int64)
        hits, count = (self.resamples.totals(everything, 1, counted)[:, 0] for counted in (right_J, None))
        draws = hits / count
        return NotSame(float(right_J.mean()), interval(draws), neighbour_N), draws

    @torch.inference_mode()
    def _nearest(self, profiles_ND: NDArray[np.floating], rows_J: Numbers) -> Numbers:
        """(J,) row of the most similar profile that differs in all columns."""
        profiles = torch.nn.functional.normalize(torch.from_numpy(np.asarray(profiles_ND, np.float32)), dim=1)
        columns_AN = torch.from_numpy(self.columns_AN)
        found = []
        for start in range(0, len(rows_J), QUERIES):
            rows_Q = torch.from_numpy(rows_J[start : start + QUERIES])
            best_Q, neighbour_Q = torch.full((len(rows_Q),), -torch.inf), torch.full((len(rows_Q),), -1)
            for first in range(0, len(profiles), REFERENCES):
                part = slice(first, first + REFERENCES)
                similarities_QM = profiles[rows_Q] @ profiles[part].T
                for column_N in columns_AN:
                    similarities_QM.masked_fill_(column_N[rows_Q, None] == column_N[None, part], -torch.inf)
                here_Q, place_Q = similarities_QM.max(dim=1)
                better_Q = here_Q > best_Q
                best_Q, neighbour_Q = torch.where(better_Q, here_Q, best_Q), torch.where(better_Q, place_Q + first, neighbour_Q)
            found.append(neighbour_Q.numpy())
        return np.concatenate(found)


def _differing(columns_AN: Numbers, same_N: Numbers | None = None) -> Numbers:
    """(N,) how many profiles differ from each in all columns, of those that agree with it in `same_N`: by inclusion and exclusion."""
    count_N = np.zeros(columns_AN.shape[1], np.int64)
    for size in range(len(columns_AN) + 1):
        for chosen in combinations(columns_AN, size):
            agreeing = [*chosen, *([] if same_N is None else [same_N])]
            count_N += (-1) ** size * _as_many(agreeing, len(count_N))
    return count_N


def _as_many(columns: Sequence[Numbers], profiles: int) -> Numbers:
    """(N,) how many profiles have the same values in these columns as each."""
    if not columns:
        return np.full(profiles, profiles, np.int64)
    value_N, counts = np.unique(np.stack(columns), axis=1, return_inverse=True, return_counts=True)[1:]
    return np.asarray(counts[np.ravel(value_N)], dtype=np.int64)
