"""Judge features by classifiers that never saw the cells they are judged on (no files, no torch).

`make_folds` splits the cells once, `cross_validate` judges any features on that split, `fit_classifier` gives the classifier to keep.
"""

from __future__ import annotations

from dino4cells.classify.crossval import Classifier, CrossValidation, cross_validate, fit_classifier
from dino4cells.classify.metrics import Scores, score
from dino4cells.classify.splits import Folds, make_folds

__all__ = ["Classifier", "CrossValidation", "Folds", "Scores", "cross_validate", "fit_classifier", "make_folds", "score"]
