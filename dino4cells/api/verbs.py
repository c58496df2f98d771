"""The three verbs, predictions, and what they wrote read back: `dino4cells.steps` with a path or a mapping, and keywords for its keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dino4cells import steps
from dino4cells.api.settings import Settings, keys, resolved
from dino4cells.cluster.launchers import processes_of
from dino4cells.errors import ConfigError
from dino4cells.features.store import Features, FeaturesCard
from dino4cells.features.store import read_features as read
from dino4cells.models.artifact import ModelCard

if TYPE_CHECKING:
    from dino4cells.classify.evaluate import Evaluation
    from dino4cells.classify.prediction import PredictionsCard

Place = str | os.PathLike[str]
"""A path or URL."""


def train(
    config: Settings | None = None,
    *,
    data: Place | None = None,
    output: Place | None = None,
    preset: str = "",
    overwrite: bool = False,
    processes: int = 1,
    device: str = "auto",
    **keywords: object,
) -> ModelCard:
    """Train a DINO model on the cells of a table and write the model artifact to `output`; an interrupted run goes on where it stopped.

    Args:
        config: path or URL of a `config.yaml`, the same as a mapping, or a Config; None: the preset alone.
        data: directory or URL that holds a `metadata.csv`; `model.data_path` when None.
        output: where the model goes; `model.output_dir` when None.
        preset: `small`, `small-fluorescence` or `handbook`, below the configuration.
        overwrite: replace another model that is at `output`.
        processes: of this machine that share the work.
        device: `auto`, `cpu` or `cuda`.
        keywords: keys of the configuration, those of `model` first: `epochs=20`, `seed=1`; with a section by
            `**{"global_transfo1.RandomResizedCrop.size": 48}`.

    Returns:
        The model's card (`model.json`), which says what was trained on and how it went; `load_model(output)` gives the network.

    Raises:
        Dino4CellsError: what the user can fix.

    Example:
        >>> dino4cells.train(preset="small", data="cells", output="model", epochs=20).training.loss_end  # doctest: +SKIP
    """
    settings = resolved(config, "model", keywords, preset)
    place = _text(output)
    return steps.train(
        settings, data=_text(data), output=place, overwrite=overwrite, processes=processes_of("local", processes), device=device
    )


def extract(
    model: Place,
    config: Settings | None = None,
    *,
    data: Place | None = None,
    output: Place | None = None,
    overwrite: bool = False,
    baselines: bool | None = None,
    processes: int = 1,
    device: str = "auto",
    **keywords: object,
) -> FeaturesCard:
    """Write the features of every cell of a table to `output`, in the table's order.

    Args:
        model: URL of a model artifact, or of a checkpoint of DINO4Cells or DINO.
        config: path, mapping or Config; the model's own when None.
        data: directory or URL that holds a `metadata.csv`; what the configuration names when None.
        output: where the features go: a directory, or one file (`.pth`) in the published layout; `embedding.output_path` when None.
        overwrite: replace other features that are at `output`.
        baselines: also write features of the untrained network and intensity statistics; `embedding.baselines` when None.
        processes: of this machine that share the work.
        device: `auto`, `cpu` or `cuda`.
        keywords: keys of the configuration, those of `embedding` first: `channels=["DAPI", "Actin"]`, `precision="float32"`.

    Returns:
        The features' card (`features.json`): rows, failed rows, channels, precision. `read_features(output)` gives the numbers.

    Raises:
        Dino4CellsError: what the user can fix.

    Example:
        >>> dino4cells.extract("model", data="cells", output="features").failed_rows  # doctest: +SKIP
        0
    """
    url = os.fspath(model)
    asked = keys(keywords, "embedding")
    settings = resolved(config, "embedding", asked) if config is not None else steps.configuration_of(url, asked)
    return steps.extract(
        url,
        config=settings,
        data=_text(data),
        output=_text(output),
        overwrite=overwrite,
        baselines=baselines,
        processes=processes_of("local", processes),
        device=device,
    )


def classify(
    features: Place,
    config: Settings | None = None,
    *,
    output: Place,
    data: Place | None = None,
    model: Place | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> Evaluation:
    """Cross-validate classifiers on features, beside baselines, and write figures, predictions and a report to `output`.

    Args:
        features: URL of features, as `read_features` takes it.
        config: path, mapping or Config; None: the defaults.
        output: where the classification goes.
        data: the images, for the report's pictures of cells, or None: a report without.
        model: the model, for the report's loss curve, or None: a report without.
        overwrite: replace another classification that is at `output`.
        keywords: keys of the configuration, those of `classification` first: `label="cell_type"`, `group="plate"`.

    Returns:
        The evaluation: scores of every classifier on every kind of features, classes, folds and predictions.

    Raises:
        Dino4CellsError: what the user can fix.

    Example:
        >>> dino4cells.classify("features", output="classes", label="cell_type", group="plate")  # doctest: +SKIP
    """
    settings = resolved(config, "classification", keywords)
    wanted = settings.classification
    if wanted.train_cell_type or wanted.train_protein:
        key = "train_cell_type" if wanted.train_cell_type else "train_protein"
        raise ConfigError(
            f"{settings.where('classification', key)}: asks for a classifier head; train it by the command dino4cells classify, or by "
            "dino4cells.steps.train_classifier."
        )
    return steps.classify(
        os.fspath(features), config=settings, output=os.fspath(output), data=_text(data), model=_text(model), overwrite=overwrite
    )


def predict(
    classifier: Place,
    *,
    output: Place,
    features: Place | None = None,
    data: Place | None = None,
    model: Place | None = None,
    kind: str = "linear",
    overwrite: bool = False,
    processes: int = 1,
    device: str = "auto",
    **keywords: object,
) -> PredictionsCard:
    """Apply a classifier to cells that it has not seen, and write `predictions.parquet` to `output`: a row a cell, with probabilities.

    Args:
        classifier: URL of what `classify` left.
        output: where the predictions go.
        features: URL of features of the cells, of the model whose features the classifier has learnt from.
        data: or the cells' images, as a directory or URL that holds a `metadata.csv`.
        model: the model that features of images come from; the classifier's own when None.
        kind: `linear` or `knn`, of the two that `classify` fits.
        overwrite: replace other predictions that are at `output`.
        processes: of this machine that share the extraction of features of images.
        device: `auto`, `cpu` or `cuda`.
        keywords: keys of the configuration for how images are read, those of `embedding` first: `channels=["DAPI", "Actin"]`.

    Returns:
        The predictions' card (`predictions.json`): rows, failed rows, classes, how often each was predicted.

    Raises:
        Dino4CellsError: what the user can fix.

    Example:
        >>> dino4cells.predict("classes", data="new-cells", output="predictions").counts  # doctest: +SKIP
        {'HeLa': 120, 'U2OS': 48}
    """
    return steps.predict(
        os.fspath(classifier),
        output=os.fspath(output),
        features=_text(features),
        data=_text(data),
        model=_text(model),
        kind=kind,
        overrides=keys(keywords, "embedding"),
        overwrite=overwrite,
        processes=processes_of("local", processes),
        device=device,
    )


def read_features(features: Place, config: Settings | None = None) -> Features:
    """Read features into memory, rows in the order of the table of cells.

    Args:
        features: URL of a features artifact, or of one file: `.parquet`, `.h5ad`, or `.pth` in the published layout.
        config: says what the columns of labels in a `.pth` are, which has no names for them.

    Returns:
        The features: `dino` (N, D) float32, NaN in failed rows; `metadata`, the table's columns and `dino_error`; `baselines`; `card`.

    Raises:
        ArtifactError: no complete features there, or a file of something else.

    Example:
        >>> read_features("features").dino.shape  # doctest: +SKIP
        (1680, 192)
    """
    return read(os.fspath(features), None if config is None else resolved(config, "embedding", {}))


def _text(place: Place | None) -> str | None:
    return None if place is None else os.fspath(place)
