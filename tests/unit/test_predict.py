"""A saved classifier and cells that it has not seen: what is predicted, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from simulated_features import cells_of_lines, cells_of_places, write_features
from sklearn.preprocessing import FunctionTransformer

from dino4cells import steps
from dino4cells.artifacts import ArtifactWriter, open_artifact
from dino4cells.classify.evaluate import KIND, evaluate, fitted_classifiers
from dino4cells.classify.feature_kind import FeatureKind
from dino4cells.classify.saved import load_saved
from dino4cells.config.classification import ClassificationConfig
from dino4cells.errors import ArtifactError, ConfigError, DataError
from dino4cells.features.store import read_features

QUICK = ("--batch_size_per_gpu", 64, "--lr", 0.004, "--epochs", 8)
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a cross-validated run leaves, but for its report."""
    place = tmp_path_factory.mktemp("judged")
    features = read_features(write_features(str(place / "features"), *cells_of_lines(360)))
    config = ClassificationConfig(label="cell_type")
    evaluation = evaluate(features, config)
    with ArtifactWriter(str(place / "classes"), KIND) as writer:
        writer.write_text("metrics.json", evaluation.metrics_json(features.card))
        for name, content in fitted_classifiers(features, evaluation, config).items():
            writer.write_bytes(name, content)
    return str(place / "classes")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Features of 90 other cells, of which one has none."""
    frame, values = cells_of_lines(90, seed=7)
    values[4] = np.nan
    return write_features(str(tmp_path_factory.mktemp("unseen") / "features"), frame.assign(plate="p9"), values)


def predictions_of(url: Path) -> pd.DataFrame:
    return pd.read_parquet(open_artifact(str(url), "predictions").local("predictions.parquet"))


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_the_judges_that_a_run_leaves_predict_new_features(
    dino4cells: Command, judged: str, unseen: str, tmp_path: Path, kind: str
) -> None:
    done = dino4cells("predict", judged, "--features", unseen, "--kind", kind, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    assert "predicted 90 cells, 1 of them without a prediction" in done.out
    found, truth = predictions_of(tmp_path / "out"), read_features(unseen)
    assert found["file"].tolist() == truth.metadata["file"].tolist()
    assert (found["plate"] == "p9").all()
    assert found.loc[4, ["prediction", "probability_line 0"]].isna().all()
    good = found.drop(4)
    assert (good["prediction"] == truth.metadata["cell_type"].drop(4)).mean() > 0.9
    probabilities = good.filter(like="probability_")
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert ("probability_" + good["prediction"] == probabilities.idxmax(axis=1)).all()
    card = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert sum(card["counts"].values()) == 89
    assert card["classes"] == [f"line {line}" for line in range(4)]
    refused = dino4cells("predict", judged, "--features", unseen, "--output", tmp_path / "out")
    assert "--overwrite" in refused.err


def test_a_head_of_several_labels_predicts_as_it_did_and_fields_as_the_mean_of_their_cells(dino4cells: Command, tmp_path: Path) -> None:
    frame, values = cells_of_places(240)
    frame["ID"] = [f"field-{row // 2}" for row in range(240)]
    for name in frame.filter(like="place "):
        frame[name] = frame[name].iloc[::2].repeat(2).to_numpy()
    features = write_features(str(tmp_path / "features"), frame, values)
    words = ["classify", "--features", features, "--train_protein", "True", *QUICK]
    assert dino4cells(*words, "--output", tmp_path / "cells").code == 0
    assert dino4cells("predict", tmp_path / "cells", "--features", features, "--output", tmp_path / "again").code == 0
    trained = pd.read_parquet(tmp_path / "cells" / "predictions.parquet").set_index("file").sort_index()
    found = predictions_of(tmp_path / "again").set_index("file").sort_index()
    assert (found["prediction"] == trained["prediction"]).all()
    columns = [f"probability_place {place}" for place in range(4)]
    np.testing.assert_allclose(found[columns], trained[columns], atol=1e-6)
    assert dino4cells(*words, "--whole_images", "True", "--output", tmp_path / "fields").code == 0
    values[[0, 1, 2]] = np.nan
    failing = write_features(str(tmp_path / "failing"), frame, values)
    assert dino4cells("predict", tmp_path / "fields", "--features", failing, "--output", tmp_path / "by_field").code == 0
    fields = predictions_of(tmp_path / "by_field").set_index("ID")
    assert len(fields) == 120
    assert fields["prediction"].isna().sum() == 1  # one field has lost both its cells
    assert pd.isna(fields.loc["field-0", "prediction"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_fingerprint": "b" * 64}, ["come from another model (bbbbbbbbbbbb)", "(aaaaaaaaaaaa, lab/model)"]),
        ({"model_fingerprint": "", "channels": ("DNA", "ER")}, ["of the channels DNA, ER", "has learnt from nucleus, protein"]),
        ({"embedding_dim": 9, "model_fingerprint": ""}, ["has 9 features a cell", "classes takes 8"]),
        ({"tokens": "patches"}, ["embedding.tokens patches", "has learnt from class"]),
        ({"black_channels": ("ER",)}, ["black channels ER", "has learnt from none"]),
        ({"profiling": ({"normalize": "robust", "by": ["plate"], "sphere": False},)}, ["normalize robust, by plate", "not at all"]),
    ],
)
def test_features_of_another_kind_are_refused_in_a_sentence(changes: dict[str, Any], words: list[str]) -> None:
    kind = FeatureKind(embedding_dim=8, model="lab/model", model_fingerprint="a" * 64, channels=("nucleus", "protein"))
    kind.check(kind, "new", "classes")
    kind.check(FeatureKind(embedding_dim=8), "published.pth", "classes")  # says its width alone
    with pytest.raises(DataError) as refused:
        kind.check(kind.model_copy(update=changes), "new", "classes")
    for word in ["new: ", *words]:
        assert word in str(refused.value)


def test_a_file_that_would_build_something_else_than_a_classifier_is_not_read(judged: str, tmp_path: Path) -> None:
    for name, content in (("code", FunctionTransformer(np.linalg.norm)), ("other", np.arange(3))):
        with ArtifactWriter(str(tmp_path / name), KIND) as writer:
            writer.write_bytes("metrics.json", (Path(judged) / "metrics.json").read_bytes())
            writer.write_bytes("linear_probe.skops", skops.io.dumps(content))
        with pytest.raises(ArtifactError, match=r"linear_probe\.skops: holds"):
            load_saved(str(tmp_path / name))


def test_what_cannot_be_predicted_is_said_in_one_sentence(judged: str, unseen: str, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    frame, values = cells_of_lines(6)
    taken = write_features(str(tmp_path / "taken"), frame.assign(prediction="x"), values)
    other = write_features(str(tmp_path / "other"), frame, values, model="another model")
    for keywords, error, sentence in (
        ({"features": unseen, "data": "cells"}, ConfigError, "name one of the two"),
        ({"features": unseen, "kind": "forest"}, ConfigError, "--kind: must be knn or linear, not 'forest'"),
        ({"features": taken}, DataError, "the column 'prediction' has the name of one that predict adds"),
        ({"features": other}, DataError, "come from another model"),
    ):
        with pytest.raises(error, match=sentence):
            steps.predict(judged, output=output, **keywords)  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="there is no classification directory"):
        steps.predict(str(tmp_path / "nothing"), features=unseen, output=output)
    assert not (tmp_path / "out").exists()
