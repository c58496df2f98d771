"""How a trained head is judged: scores with intervals beside baselines, and probabilities calibrated on the cells that validate.

Dimensions: N cells, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dino4cells.classify.assembly import Assembly, Part
from dino4cells.classify.baselines import GUESSING, PROBE, ProbeBaseline, guesses
from dino4cells.classify.bootstrap import Difference, Resamples, warn_of_few
from dino4cells.classify.calibration import Calibration, fit_temperatures, probabilities_of
from dino4cells.classify.inputs import FeatureInputs
from dino4cells.classify.scores import Floats, HeadScores, head_scores
from dino4cells.config import ClassificationConfig

JUDGED_BESIDE = ("valid", "test")
"""Parts whose scores stand beside baselines; of the cells that train they would say nothing."""


@dataclass(frozen=True)
class JudgedPart:
    """What is known of the cells of a part.

    Attributes:
        cells: number of cells that were judged: their label is known and their image could be read.
        scores: of the head.
        calibration: what calibration did to their probabilities.
        baselines: name → scores of it.
        resampled: what the intervals' resamples draw.
    """

    cells: int
    scores: HeadScores
    calibration: Calibration
    baselines: Mapping[str, HeadScores]
    resampled: str

    def differences(self) -> dict[str, dict[str, Difference]]:
        """Baseline → score → by how much the head is better, on the same cells."""
        return {
            name: {
                score: Difference.of(self.scores.values[score] - value, self.scores.draws[score], other.draws[score])
                for score, value in other.values.items()
                if score in self.scores.draws and score in other.draws
            }
            for name, other in self.baselines.items()
        }


@dataclass(frozen=True)
class Judgement:
    """What came out of a run.

    Attributes:
        parts: part → what is known of it; without parts of which no cell could be judged.
        warnings: sentences for the user.
    """

    parts: Mapping[str, JudgedPart]
    warnings: tuple[str, ...]


def temperatures_of(run: Assembly, logits: Mapping[str, Floats]) -> tuple[float, ...]:
    """The temperatures that the cells that validate ask for; 1 where none of them can be judged.

    Args:
        run: the cells and their labels.
        logits: (N, K) of the cells of every part; NaN where an image could not be read.
    """
    labelled, rows = run.parts["valid"].labelled, _judged(run, logits, "valid")
    if not len(rows):
        return (1.0,)
    return fit_temperatures(logits["valid"][rows], labelled.targets_NK[rows], run.task.several)


def judge(run: Assembly, logits: Mapping[str, Floats], temperatures: tuple[float, ...], settings: ClassificationConfig) -> Judgement:
    """Judge the cells of every part.

    Args:
        run: the cells and their labels.
        logits: (N, K) of the cells of every part; NaN where an image could not be read.
        temperatures: of the probabilities.
        settings: section `classification`.
    """
    several = run.task.several
    probe = _probe(run, settings)
    parts: dict[str, JudgedPart] = {}
    warnings: dict[str, None] = {}
    for name, part in run.parts.items():
        judged = _judged(run, logits, name)
        if not len(judged):
            continue
        found, targets = logits[name][judged], part.labelled.targets_NK[judged]
        groups = _groups(part, judged, settings.group)
        resamples = Resamples.of(len(judged), groups, settings.group or "group", settings.seed)
        others: dict[str, Floats] = {}
        if name in JUDGED_BESIDE:
            warnings |= dict.fromkeys(f"{name}: {sentence}" for sentence in warn_of_few(groups, settings.group or "group"))
            others[GUESSING] = guesses(run.task, run.parts["train"].labelled.targets_NK, len(judged))
            if probe is not None and isinstance(part.labelled.inputs, FeatureInputs):
                others[PROBE] = probe.logits(part.labelled.inputs.values_ND[judged].cpu().numpy())
        # As the probabilities that are written: a temperature of each label changes which cells of all labels together come first.
        calibrated = (found / np.asarray(temperatures)).astype(np.float32)
        before, after = (probabilities_of(found, given, several) for given in ((1.0,), temperatures))
        parts[name] = JudgedPart(
            cells=len(judged),
            scores=head_scores(run.task, calibrated, targets, resamples),
            calibration=Calibration.of(temperatures, before, after, targets, several),
            baselines={other: head_scores(run.task, given, targets, resamples) for other, given in others.items()},
            resampled=resamples.description,
        )
    return Judgement(parts, tuple(warnings))


def _judged(run: Assembly, logits: Mapping[str, Floats], name: str) -> NDArray[np.int64]:
    """Rows of a part whose label is known and whose image could be read."""
    return np.flatnonzero(run.parts[name].labelled.known_N & np.isfinite(logits[name]).all(axis=1))


def _probe(run: Assembly, settings: ClassificationConfig) -> ProbeBaseline | None:
    """The linear probe of the training cells' features; None on images, whose features are the network's own."""
    labelled = run.parts["train"].labelled
    if not isinstance(labelled.inputs, FeatureInputs):
        return None
    return ProbeBaseline(run.task, labelled.inputs.values_ND.cpu().numpy(), labelled.targets_NK, settings.seed, settings.class_weights)


def _groups(part: Part, rows: np.ndarray, column: str | None) -> np.ndarray | None:
    if column is None or column not in part.cells.frame:
        return None
    return part.cells.frame[column].iloc[rows].astype(str).to_numpy(dtype=np.str_)
