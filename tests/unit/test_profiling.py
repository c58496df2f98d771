"""Normalization, medians, sphering and batches: held to pycytominer where it does the same, and to what a user would notice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from pycytominer import aggregate as pycytominer_aggregate
from pycytominer import normalize as pycytominer_normalize
from pycytominer.operations.transform import Spherize

from dino4cells import steps
from dino4cells.classify.evaluate import evaluate
from dino4cells.config import load_config
from dino4cells.errors import ArtifactError, ConfigError, DataError
from dino4cells.features import profiling
from dino4cells.features.store import Features, read_features
from tests.conftest import Finished
from tests.unit.simulated_features import write_features

ROWS, WIDTH = 240, 6
COLUMNS = [f"dino_{number}" for number in range(WIDTH)]


def wells(noise: float = 1.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Cells of 3 plates with 8 wells each, of which two hold DMSO; plates differ in scale and offset."""
    random = np.random.default_rng(0)
    row = np.arange(ROWS)
    frame = pd.DataFrame(
        {
            "file": [f"{number}.png" for number in row],
            "plate": [f"P{number}" for number in row % 3],
            "well": [f"A{number}" for number in row // 3 % 8],
            "dose": row // 3 % 8 / 2,
        }
    )
    frame["compound"] = np.where(frame["well"].isin(["A0", "A1"]), "DMSO", "drug " + frame["well"])
    frame["ID"] = frame["plate"] + frame["well"] + np.where(row // 24 % 2, "left", "right")
    effect = 3 * (row // 3 % 8)[:, None] * np.linspace(0, 1, WIDTH)
    mixed = random.normal(size=(ROWS, WIDTH)) @ random.normal(size=(WIDTH, WIDTH))
    values = (mixed * noise + effect) * (1 + row % 3)[:, None] + 10.0 * (row % 3)[:, None]
    return frame, values.astype(np.float32)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_features(str(tmp_path_factory.mktemp("cells") / "features"), *wells())


def with_prefix(frame: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    table: pd.DataFrame = pd.concat([frame.add_prefix("Metadata_"), pd.DataFrame(values, columns=COLUMNS)], axis=1)
    return table


@pytest.mark.parametrize(("kind", "method"), [("robust", "mad_robustize"), ("standard", "standardize")])
@pytest.mark.parametrize("controls", [None, "Metadata_compound == 'DMSO'"])
def test_normalization_by_plate_is_pycytominers(kind: str, method: str, controls: str | None, features: str, tmp_path: object) -> None:
    steps.profile(features, output=f"{tmp_path}/profiles", normalize=kind, by=["plate"], controls=controls)  # type: ignore[arg-type]
    read = read_features(f"{tmp_path}/profiles")
    table = with_prefix(*wells())
    for plate in table["Metadata_plate"].unique():
        expected = pycytominer_normalize(
            table[table["Metadata_plate"] == plate],
            features=COLUMNS,
            meta_features=["Metadata_plate", "Metadata_compound"],
            samples=controls or "all",
            method=method,
        )
        np.testing.assert_allclose(read.dino[read.metadata["plate"] == plate], expected[COLUMNS], rtol=1e-4, atol=1e-4)


def test_medians_of_wells_are_pycytominers_with_the_columns_that_a_well_has_and_the_number_of_its_cells(
    features: str, tmp_path: object
) -> None:
    card = steps.profile(features, output=f"{tmp_path}/profiles", normalize="none", aggregate="well")
    read = read_features(f"{tmp_path}/profiles")
    expected = pycytominer_aggregate(
        with_prefix(*wells()), strata=["Metadata_plate", "Metadata_well"], features=COLUMNS, operation="median"
    ).sort_values(["Metadata_plate", "Metadata_well"])
    found = read.metadata.assign(row=range(24)).sort_values(["plate", "well"])
    np.testing.assert_allclose(read.dino[found["row"]], expected[COLUMNS], rtol=1e-6)
    assert list(read.metadata.columns) == ["plate", "well", "dose", "compound", "cells", "dino_model", "dino_error"]
    assert read.metadata["cells"].tolist() == [10] * 24
    assert (card.rows, card.data_fingerprint) == (24, "")


def test_sphering_is_pycytominers_where_there_is_no_regularization() -> None:
    _, values = wells()
    controls = np.arange(ROWS) % 5 == 0
    expected = Spherize(method="ZCA-cor").fit(pd.DataFrame(values[controls].astype(float))).transform(pd.DataFrame(values.astype(float)))
    profiling.sphere(values, controls, 0.0, "cells")
    np.testing.assert_allclose(values, np.asarray(expected), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(np.cov(values[controls].T), np.eye(WIDTH), atol=1e-3)


def test_sphering_on_fewer_controls_than_features_and_on_constant_ones_stays_within_bounds() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(50, 40)).astype(np.float32)
    values[:10, 7] = 3
    profiling.sphere(values, np.arange(50) < 10, 0.01, "cells")
    assert (values[:, 7] == 0).all()
    assert np.abs(values).max() < 100
    with pytest.raises(DataError, match="2 controls and takes three"):
        profiling.sphere(values, np.arange(50) < 2, 0.01, "cells")


def test_harmony_brings_plates_together_and_leaves_what_is_between_cells() -> None:
    random = np.random.default_rng(0)
    kind, plate = np.arange(300) % 2, np.arange(300) // 2 % 2
    values = (random.normal(size=(300, 8)) + 6 * kind[:, None] * (np.arange(8) < 4) + 3 * plate[:, None] * (np.arange(8) == 7)).astype(
        np.float32
    )
    values[5] = np.nan
    usable = np.arange(300) != 5

    def between(labels: np.ndarray) -> float:
        means = [values[usable & (labels == label)].mean(axis=0) for label in (0, 1)]
        return float(np.linalg.norm(means[0] - means[1]))

    before = between(plate)
    profiling.harmonize(values, pd.DataFrame({"plate": plate}), ["plate"], "cells")
    assert between(plate) < 0.4 * before
    assert between(kind) > 8
    assert np.isnan(values[5]).all()
    with pytest.raises(DataError, match="one batch of plate alone"):
        profiling.harmonize(values, pd.DataFrame({"plate": [0] * 300}), ["plate"], "cells")


def test_cells_without_features_stay_and_do_not_count(tmp_path: object) -> None:
    frame, values = wells()
    values[[0, 3]] = np.nan
    values[(frame["plate"] == "P1") & (frame["well"] == "A2")] = np.nan
    url = write_features(f"{tmp_path}/features", frame, values)
    steps.profile(url, output=f"{tmp_path}/normalized")
    normalized = read_features(f"{tmp_path}/normalized")
    np.testing.assert_array_equal(np.isnan(normalized.dino[:, 0]), np.isnan(values[:, 0]))
    card = steps.profile(url, output=f"{tmp_path}/wells", aggregate="well")
    read = read_features(f"{tmp_path}/wells")
    by_well = read.metadata.set_index(["plate", "well"])
    assert by_well["cells"].loc[[("P0", "A0"), ("P0", "A1"), ("P1", "A2")]].tolist() == [9, 9, 0]
    assert by_well["dino_error"].dropna().tolist() == ["none of 10 cells has features"]
    assert card.failed_rows == 1
    assert np.isnan(read.dino).any(axis=1).sum() == 1


def test_profiles_of_compounds_follow_from_those_of_wells_and_the_card_tells_both_steps(features: str, tmp_path: object) -> None:
    control = "compound == 'DMSO'"
    steps.profile(features, output=f"{tmp_path}/wells", controls=control, aggregate="well", sphere=True)
    card = steps.profile(f"{tmp_path}/wells", output=f"{tmp_path}/compounds", normalize="none", aggregate="compound")
    read = read_features(f"{tmp_path}/compounds")
    assert read.metadata["compound"].tolist() == ["DMSO", *(f"drug A{number}" for number in range(2, 8))]
    assert read.metadata["cells"].tolist() == [60, *[30] * 6]
    first, second = card.profiling
    assert (first.normalize, first.by, first.controls) == ("robust", ("plate",), control)
    assert (first.aggregate, first.sphere) == (("plate", "well"), True)
    assert (second.normalize, second.aggregate, second.features) == ("none", ("compound",), f"{tmp_path}/wells")
    distance = np.linalg.norm(read.dino - read.dino[0], axis=1)
    assert distance.argmax() == 6  # the effect grows with the number of the drug


def test_baselines_are_treated_as_the_features_are(tmp_path: object, features: str) -> None:
    from dino4cells.artifacts import ArtifactWriter
    from dino4cells.features import store
    from dino4cells.features.part_writer import MetadataColumns, PartWriter

    frame, values = wells()
    card = read_features(features).card.model_copy(update={"baselines": True})
    names = [*(f"untrained_{number}" for number in range(WIDTH)), "intensity_DNA_mean"]
    with ArtifactWriter(f"{tmp_path}/features", store.KIND) as writer:
        with PartWriter(writer.path(store.part_name(0)), MetadataColumns.of(frame), COLUMNS) as part:
            part.write(values, np.arange(ROWS), "m", [None] * ROWS)
        with PartWriter(writer.path(store.baseline_name(0)), None, names) as part:
            part.write(np.hstack([values, values[:, :1]]))
        writer.write_text(store.CARD, card.model_dump_json())
    steps.profile(f"{tmp_path}/features", output=f"{tmp_path}/wells", aggregate="well", sphere=True, controls="dose < 1")
    read = read_features(f"{tmp_path}/wells")
    np.testing.assert_array_equal(read.baselines["untrained"], read.dino)
    assert read.baselines["intensity"].shape == (24, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--by", "batch"], "there is no column 'batch' (rows that are normalized together, see --by)"),
        (["--aggregate", "Well"], "there is no column 'Well' (see --aggregate); did you mean 'well'?"),
        (["--harmony", "site"], "there is no column 'site' (batches, see --harmony)"),
        (["--controls", "compound == 'dmso'"], "--controls: 'compound == 'dmso'' picks no row"),
        (["--controls", "compound.str.len() == 1"], "cannot be understood"),
        (["--controls", "plate == 'P0'"], "plate P1 has 0 controls, of which normalization takes two"),
        (["--controls", "ID == 'P0A0right'", "--by", "", "--aggregate", "well", "--sphere"], "has no column 'ID'"),
        (["--normalize", "mad"], "there is no normalization 'mad'; choose robust, standard or none."),
        (["--regularization", "-1"], "--regularization"),
        (["--wells", "3"], "option wells: the configuration has no such key"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    words: list[str], sentence: str, features: str, tmp_path: object, dino4cells: Callable[..., Finished]
) -> None:
    ended = dino4cells("profiles", features, "--output", f"{tmp_path}/profiles", *words)
    assert ended.code == 2
    assert sentence in ended.err


def test_the_command_says_what_it_wrote_and_classification_takes_it(
    features: str, tmp_path: object, dino4cells: Callable[..., Finished]
) -> None:
    words = ["--controls", "compound == 'DMSO'", "--aggregate", "image", "--sphere", "--harmony", "plate", "--normalize", "standard"]
    ended = dino4cells("profiles", features, "--output", f"{tmp_path}/images", *words)
    assert (ended.code, ended.out.strip()) == (0, f"wrote 48 profiles × {WIDTH} features\nprofiles: {tmp_path}/images"), ended.err
    read: Features = read_features(f"{tmp_path}/images")
    assert np.isfinite(read.dino).all()
    again = dino4cells("profiles", features, "--output", f"{tmp_path}/images")
    assert "holds a finished result already" in again.err
    evaluation = evaluate(read, load_config(overrides={"classification.label": "compound", "classification.folds": 2}).classification)
    assert len(evaluation.predictions(read)) == 48


def test_profiles_are_no_single_file(features: str, tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="profiles are a directory"):
        steps.profile(features, output=f"{tmp_path}/profiles.h5ad")
    with pytest.raises(ArtifactError, match="there is no features directory"):
        steps.profile(f"{tmp_path}/nothing", output=f"{tmp_path}/profiles")
