"""Nearest neighbours of another compound and another plate: what is asked, found and told."""

from __future__ import annotations

import numpy as np
import pytest

from dino4cells.classify.not_same import NotSameTask
from dino4cells.errors import DataError

Table = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def profiles(count: int = 240, mechanism: float = 1.0, compound: float = 4.0, seed: int = 0) -> Table:
    """Profiles of 12 compounds of 4 mechanisms on 5 plates; how far mechanisms and compounds stand apart."""
    random = np.random.default_rng(seed)
    compounds = random.integers(0, 12, count)
    features = np.eye(4, 30)[compounds // 3] * mechanism + np.eye(12, 30)[compounds][:, ::-1] * compound
    plates = random.integers(0, 5, count)
    return (features + random.normal(scale=0.3, size=features.shape)).astype(np.float32), compounds // 3, compounds, plates


def task_of(table: Table, *columns: str) -> NotSameTask:
    by_name = {"compound": table[2].astype(str), "plate": table[3].astype(str)}
    return NotSameTask.of(table[1].astype(str), [by_name[name] for name in columns], columns)


@pytest.mark.parametrize("columns", [("compound",), ("compound", "plate")])
def test_the_neighbour_is_the_most_similar_profile_that_differs_in_all_columns(columns: tuple[str, ...]) -> None:
    table = profiles(90)
    features, mechanisms, compounds, plates = table
    task = task_of(table, *columns)
    result, _ = task.judge(features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    right, chances = [], []
    for row in range(90):
        allowed = compounds != compounds[row]
        allowed &= plates != plates[row] if "plate" in columns else True
        similar = np.where(allowed, unit @ unit[row], -np.inf)
        assert result.neighbour_N[row] == similar.argmax()
        right.append(mechanisms[similar.argmax()] == mechanisms[row])
        chances.append((mechanisms[allowed] == mechanisms[row]).mean())
    assert result.accuracy == pytest.approx(np.mean(right))
    assert task.chance == pytest.approx(np.mean(chances))
    assert result.interval[0] <= result.accuracy <= result.interval[1]


def test_features_that_know_compounds_and_no_mechanism_score_chance() -> None:
    table = profiles(mechanism=0)
    task = task_of(table, "compound")
    result, draws = task.judge(table[0])
    assert abs(result.accuracy - task.chance) < 0.15 < 1 - task.chance
    assert task.resamples.description == "12 values of compound"
    known, better = profiles(mechanism=6), task_of(profiles(mechanism=6), "compound").judge(profiles(mechanism=6)[0])[0]
    assert better.accuracy == 1.0
    assert len(draws) == 1000
    assert (known[2] != known[2][better.neighbour_N]).all()


def test_a_mechanism_of_one_compound_is_not_judged() -> None:
    features, mechanisms, compounds, plates = profiles()
    alone = compounds == 11
    task = task_of((features, np.where(alone, 99, mechanisms), compounds, plates), "compound")
    assert (task.judged_N == ~alone).all()
    result, _ = task.judge(features)
    assert (result.neighbour_N[alone] == -1).all()
    with pytest.raises(DataError, match="no class occurs in two profiles that differ in compound"):
        task_of((features, compounds, compounds, plates), "compound")
