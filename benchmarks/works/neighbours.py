"""The search of nearest neighbours against the matrix product that it cannot do without, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from benchmarks.measuring import Machine, Row, alternate, apart, peak_memory_mib
from dino4cells.classify.neighbours import nearest

QUERIES, REFERENCES, FEATURES, NEIGHBOURS = 2048, 1_000_000, 384, 20
FEW = 100_000
TILE = 8192  # references in one product of the reference, which keeps none


def measure(machine: Machine) -> list[Row]:
    """Time among a million references and among a tenth of them, and memory beside the references."""
    queries, references = rows(QUERIES, seed=0), rows(REFERENCES, seed=1)
    product = 2.0 * QUERIES * REFERENCES * FEATURES
    among = alternate(
        {"product": lambda: _product(queries, references), "search": lambda: nearest(queries, references, NEIGHBOURS)}, rounds=2, warm_up=0
    )
    few = references[:FEW]
    against = alternate(
        {"sklearn": lambda: _sklearn(queries, few), "search": lambda: nearest(queries, few, NEIGHBOURS)}, rounds=2, warm_up=0
    )
    small, large = (apart(memory_of_a_search, count) for count in (FEW, REFERENCES))
    name = f"{NEIGHBOURS}-NN: {QUERIES:,} queries among {{:,}} × {FEATURES}"
    return [
        Row(
            name.format(REFERENCES),
            among["product"],
            among["search"],
            "s",
            among["product"] / among["search"],
            share_of_peak=product / among["search"] / machine.multiply_adds[torch.float32],
            target=0.5,
            note="reference: the matrix product alone",
        ),
        Row(
            name.format(FEW),
            against["sklearn"],
            against["search"],
            "s",
            against["sklearn"] / against["search"],
            note="reference: scikit-learn, brute force on rows of length 1",
        ),
        Row(
            f"{NEIGHBOURS}-NN: memory beside {REFERENCES:,} features",
            None,
            large,
            "MiB",
            None,
            note=f"beside {FEW:,} features {small:,.0f} MiB; all similarities at once would be {4 * QUERIES * REFERENCES / 2**20:,.0f}",
        ),
    ]


def rows(count: int, seed: int) -> np.ndarray:
    """Features (count, D) float32 without any structure that a search could use."""
    return torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed)).numpy()


def memory_of_a_search(count: int) -> float:
    """MiB that a search among `count` references takes beside them."""
    references = rows(count, seed=1)
    before = peak_memory_mib()
    nearest(references[:QUERIES], references, NEIGHBOURS)
    return peak_memory_mib() - before


def _product(queries: np.ndarray, references: np.ndarray) -> None:
    left, right = torch.from_numpy(queries), torch.from_numpy(references)
    similarities = torch.empty(len(left), TILE)
    for start in range(0, len(right), TILE):
        part = right[start : start + TILE]
        torch.mm(left, part.T, out=similarities if len(part) == TILE else torch.empty(len(left), len(part)))


def _sklearn(queries: np.ndarray, references: np.ndarray) -> None:
    units = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, references)]
    NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(units[1]).kneighbors(units[0])
