"""Judge features by classifiers that never saw the cells they are judged on (no files).

`make_folds` splits the cells once, `cross_validate` judges any features on that split, `fit_classifier` gives the classifier to keep.

The paper's heads, which are trained on features or on images, are a matter of their own: `classify.train` runs the steps of `assembly`
(cells, labels, network), `head_training` (the loop) and `results`; `classify.classifier` reads what they wrote.
"""

from __future__ import annotations

from dino4cells.classify.crossval import Classifier, CrossValidation, cross_validate, fit_classifier
from dino4cells.classify.metrics import Scores, score
from dino4cells.classify.splits import Folds, make_folds

__all__ = ["Classifier", "CrossValidation", "Folds", "Scores", "cross_validate", "fit_classifier", "make_folds", "score"]
