"""Exact nearest neighbours by cosine similarity among any number of rows: hardly more than the matrix product that they need.

Similarities are computed a tile of queries and references at a time, so that neither they nor a copy of the references are ever in memory
as a whole. In a tile, the maximum of each short block of references tells which blocks can hold one of the k nearest: at most k blocks
do, those of the k largest maxima. Only these are looked at closely, and only for queries that the tile improves.

Dimensions: N queries, M references, D features, k neighbours; in a tile, Q queries, R references, and b of R's blocks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

QUERIES, REFERENCES = 2048, 4096  # of a tile: 32 MiB of similarities
BLOCK = 32
SPARE = 8
"""Candidates beyond k that are compared in float64."""
COMPARED_AT_ONCE = 256  # queries


def nearest(
    queries_ND: NDArray[np.floating], references_MD: NDArray[np.floating], k: int, device: torch.device | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k references of largest cosine similarity to each query, most similar first, equally similar ones by their number.

    Candidates are found in float32 and compared in float64. A neighbour could therefore be missed only where more than `SPARE` others
    are as similar as the k-th up to float32's rounding (about 1e-6), so that they are neighbours as good.

    Args:
        queries_ND: (N, D) float32 or float64, finite, in memory or mapped from a file; of any length, also 0 (similarity 0 to all).
        references_MD: (M, D), as the queries.
        k: how many, 1 to M.
        device: where the matrix products run; None: the GPU where there is one.

    Returns:
        Rows of the references (N, k) and their similarities (N, k), in [-1, 1]. Beside its arguments and these, the search holds less
        than 300 MB for up to 384 features and k up to 100, and a number for each reference.

    Raises:
        ValueError: the shapes do not fit, or there are fewer than k references.

    Example:
        >>> rows, similarities = nearest(np.array([[1.0, 0.1]]), np.array([[0.0, 2.0], [3.0, 0.0], [1.0, 1.0]]), k=2)
        >>> rows.tolist(), similarities.round(3).tolist()
        ([[1, 2]], [[0.995, 0.774]])
    """
    if queries_ND.ndim != 2 or references_MD.ndim != 2 or queries_ND.shape[1] != references_MD.shape[1]:
        raise ValueError(f"Queries of shape {queries_ND.shape} and references of shape {references_MD.shape} have no similarities.")
    if not 1 <= k <= len(references_MD):
        raise ValueError(f"{k} neighbours are asked for among {len(references_MD)} references.")
    place = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    search = _Search(references_MD, min(k + SPARE, len(references_MD)), place)
    rows_Nk = np.empty((len(queries_ND), k), np.int64)
    similarities_Nk = np.empty((len(queries_ND), k), np.float64)
    for start in range(0, len(queries_ND), QUERIES):
        queries_QD = queries_ND[start : start + QUERIES]
        candidates_Qc = search.candidates(queries_QD)
        for first in range(0, len(queries_QD), COMPARED_AT_ONCE):
            few = slice(first, first + COMPARED_AT_ONCE)
            into = slice(start + first, start + min(first + COMPARED_AT_ONCE, len(queries_QD)))
            rows_Nk[into], similarities_Nk[into] = _compared(queries_QD[few], references_MD, candidates_Qc[few], k)
    return rows_Nk, similarities_Nk


class _Search:
    """Candidates for the nearest of many references."""

    def __init__(self, references_MD: NDArray[np.floating], count: int, device: torch.device) -> None:
        self.references_MD, self.count, self.device = references_MD, count, device
        starts = range(0, len(references_MD), REFERENCES)
        self._scale_M = np.concatenate([_scale(references_MD[start : start + REFERENCES]) for start in starts])

    @torch.inference_mode()
    def candidates(self, queries_QD: NDArray[np.floating]) -> NDArray[np.int64]:
        """(Q, count) rows of the references that are nearest in float32, in no order."""
        queries = self._unit(queries_QD, _scale(queries_QD))
        best_Qc = queries.new_full((len(queries), self.count), -torch.inf)
        rows_Qc = torch.zeros(best_Qc.shape, dtype=torch.int64, device=self.device)
        width = min(REFERENCES, -(-len(self.references_MD) // BLOCK) * BLOCK)
        tile_QR = queries.new_empty(len(queries), width)
        for start in range(0, len(self.references_MD), width):
            part = slice(start, start + width)
            references = self._unit(self.references_MD[part], self._scale_M[part])
            if len(references) < width:
                references = torch.cat([references, references.new_zeros(width - len(references), references.shape[1])])
            torch.mm(queries, references.T, out=tile_QR)
            tile_QR[:, len(self.references_MD) - start :] = -torch.inf
            _keep_best(best_Qc, rows_Qc, tile_QR, start)
        return rows_Qc.cpu().numpy()

    def _unit(self, rows_XD: NDArray[np.floating], scale_X: NDArray[np.floating]) -> torch.Tensor:
        return torch.from_numpy(np.multiply(rows_XD, scale_X[:, None], dtype=rows_XD.dtype).astype(np.float32, copy=False)).to(self.device)


def _keep_best(best_Qc: torch.Tensor, rows_Qc: torch.Tensor, tile_QR: torch.Tensor, start: int) -> None:
    """Put what a tile has better than the worst of the best so far into their place; its references are those from `start` on."""
    blocks_QbB = tile_QR.view(len(tile_QR), -1, BLOCK)
    maxima_Qb = blocks_QbB.amax(dim=2)
    improved = (maxima_Qb.amax(dim=1) > best_Qc.amin(dim=1)).nonzero()[:, 0]
    if not len(improved):
        return
    count = best_Qc.shape[1]
    chosen_Xb = maxima_Qb[improved].topk(min(count, maxima_Qb.shape[1]), sorted=False).indices
    values = blocks_QbB[improved[:, None], chosen_Xb].flatten(1)
    columns = (chosen_Xb[:, :, None] * BLOCK + torch.arange(BLOCK, device=tile_QR.device)).flatten(1)
    values = torch.cat([best_Qc[improved], values], dim=1)
    rows = torch.cat([rows_Qc[improved], columns + start], dim=1)
    kept = values.topk(count, sorted=False)
    best_Qc[improved] = kept.values
    rows_Qc[improved] = rows.gather(1, kept.indices)


def _compared(
    queries_QD: NDArray[np.floating], references_MD: NDArray[np.floating], candidates_Qc: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest of the candidates in float64, in order."""
    candidates_Qc = np.sort(candidates_Qc, axis=1)
    found_QcD = references_MD[candidates_Qc].astype(np.float64, copy=False)
    queries = queries_QD.astype(np.float64)
    products_Qc = np.einsum("qd,qcd->qc", queries, found_QcD)
    similarities_Qc = products_Qc * _scale(queries)[:, None] * _scale(found_QcD)
    order_Qk = np.argsort(-similarities_Qc, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(candidates_Qc, order_Qk, axis=1), np.take_along_axis(similarities_Qc, order_Qk, axis=1).clip(-1, 1)


def _scale(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """The number that makes each row one of length 1, in float64; 0 for a row of zeros."""
    lengths = np.sqrt(np.einsum("...d,...d->...", rows, rows, dtype=np.float64))
    return np.asarray(np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0))
