"""What a user can get wrong: one sentence that says what, where and what to do, exit code 2, and nothing that was finished is lost."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dino4cells.artifacts import open_artifact
from dino4cells.features.store import read_features
from dino4cells.models.artifact import load_card

Command = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def _without_umap() -> Iterator[None]:
    """Reports get by with principal components: the compilation of UMAP takes longer than all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "umap", None)
        yield


@pytest.fixture(scope="module")
def finished(cells: str, tiny_yaml: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a finished `model` and its `features`, to read and not to change."""
    from dino4cells import steps
    from dino4cells.config import load_config

    place = tmp_path_factory.mktemp("finished")
    config = load_config(tiny_yaml)
    steps.train(config, data=cells, output=str(place / "model"))
    steps.extract(str(place / "model"), config=config, data=cells, output=str(place / "features"))
    return place


@pytest.fixture
def my_cells(cells: str, tmp_path: Path) -> Path:
    """A copy of the cells, to break."""
    return Path(shutil.copytree(cells, tmp_path / "my-cells"))


def edit(directory: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = directory / "metadata.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def assert_refused(answer: Any, *parts: str) -> None:
    """One line that begins with `error:` and holds the parts in this order; nothing else but warnings and progress."""
    assert answer.code == 2, answer
    lines = answer.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, answer.err
    assert lines[-1] == errors[0]
    assert "Traceback" not in answer.err + answer.out
    place = 0
    for part in parts:
        assert part in errors[0][place:], f"{part!r} is not in its place in {errors[0]!r}"
        place = errors[0].index(part, place) + len(part)


# The table


def test_no_metadata(dino4cells: Command, tiny_yaml: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = dino4cells("train", "--config", tiny_yaml, "--data", tmp_path / "empty", "--output", tmp_path / "model")
    assert_refused(answer, f"{tmp_path}/empty/metadata.csv: no such file", "give a directory or URL that holds a metadata.csv")
    assert not (tmp_path / "model").exists()


def test_no_data_given(dino4cells: Command, tiny_yaml: str, tmp_path: Path) -> None:
    answer = dino4cells("train", "--config", tiny_yaml, "--output", tmp_path / "model")
    assert_refused(answer, "model.data_path: is not given; say where the table of cells (metadata.csv) is, there or by --data.")


def test_no_output_given(dino4cells: Command, tiny_yaml: str, cells: str) -> None:
    answer = dino4cells("train", "--config", tiny_yaml, "--data", cells)
    assert_refused(answer, "model.output_dir: is not given; say where the model goes, there or by --output.")


def test_no_column_with_the_file(dino4cells: Command, tiny_yaml: str, my_cells: Path, tmp_path: Path) -> None:
    edit(my_cells, lambda frame: frame.rename(columns={"file": "filename"}))
    answer = dino4cells("train", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "model")
    assert_refused(answer, f"{my_cells}/metadata.csv: there is no column 'file' (the image of each cell); did you mean", "'filename'?")


def test_an_empty_table(dino4cells: Command, tiny_yaml: str, my_cells: Path, tmp_path: Path) -> None:
    edit(my_cells, lambda frame: frame.iloc[:0])
    answer = dino4cells("train", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "model")
    assert_refused(answer, f"{my_cells}/metadata.csv: the table has no rows", "one row a cell")


@pytest.mark.parametrize("option", ["label", "group"])
def test_no_such_column(dino4cells: Command, finished: Path, tmp_path: Path, option: str) -> None:
    answer = dino4cells("classify", "--features", finished / "features", "--output", tmp_path / "classes", f"--{option}", "plaet")
    assert_refused(answer, f"{finished}/features: there is no column 'plaet'", f"--{option}", "did you mean", "'plate'?")
    assert not (tmp_path / "classes").exists()


@pytest.mark.parametrize(("words", "column"), [((), "protein_location"), (("--group", "plate"), "plate")])
@pytest.mark.parametrize("empty", [[3], [3, 5, 7]])
def test_a_cell_without_class_or_group(
    dino4cells: Command, my_cells: Path, tiny_yaml: str, tmp_path: Path, words: tuple[str, ...], column: str, empty: list[int]
) -> None:
    edit(my_cells, lambda frame: frame.assign(**{column: frame[column].astype(object).where(~frame.index.isin(empty))}))
    answer = dino4cells("run", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "runs", *words)
    place = f"{my_cells}/metadata.csv, cell 4 (images/003.png): the column '{column}' is empty"
    assert_refused(answer, place, "(and in 2 more); fill it in" if len(empty) == 3 else "; fill it in", "or delete the cell's row.")
    assert not (tmp_path / "runs").exists()


def test_features_with_a_cell_without_class(dino4cells: Command, my_cells: Path, finished: Path, tiny_yaml: str, tmp_path: Path) -> None:
    edit(my_cells, lambda frame: frame.assign(protein_location=frame["protein_location"].where(frame.index != 3)))
    features = tmp_path / "features"
    extracted = dino4cells("extract", "--model", finished / "model", "--data", my_cells, "--output", features)
    assert extracted.code == 0, extracted.err
    answer = dino4cells("classify", "--features", features, "--output", tmp_path / "classes")
    assert_refused(answer, f"{features}, cell 4 (images/003.png)", "is empty; fill it in metadata.csv", "and extract again.")
    assert open_artifact(str(features), "features").names


def test_one_class_alone(dino4cells: Command, my_cells: Path, tiny_yaml: str, tmp_path: Path) -> None:
    edit(my_cells, lambda frame: frame.assign(protein_location="nucleus"))
    answer = dino4cells("run", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "runs")
    assert_refused(
        answer, f"{my_cells}/metadata.csv: ", "'protein_location' holds one class only ('nucleus', 24 cells)", "name another column"
    )


def test_fewer_groups_than_folds(dino4cells: Command, finished: Path, tmp_path: Path) -> None:
    answer = dino4cells("classify", "--features", finished / "features", "--output", tmp_path / "classes", "--group", "plate")
    assert_refused(
        answer, f"{finished}/features: ", "'plate' has 3 values (1, 2, 3)", "5 folds need 5", "use 3 folds or another group column"
    )


def test_pictures_of_other_cells(dino4cells: Command, my_cells: Path, finished: Path, cells: str, tmp_path: Path) -> None:
    edit(my_cells, lambda frame: frame.iloc[:9])
    words = ["classify", "--features", finished / "features", "--output", tmp_path / "classes", "--data", my_cells]
    assert_refused(dino4cells(*words), f"{my_cells}/metadata.csv: is not the table that", f"{cells}/metadata.csv", "give that one")


# Images


def test_an_image_that_is_not_there_is_skipped_in_training(
    dino4cells: Command, my_cells: Path, tiny_yaml: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (my_cells / "images" / "005.png").unlink()
    answer = dino4cells("train", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "model")
    assert answer.code == 0, answer.err
    assert f"Skipped: {my_cells}/images/005.png: no such file or directory; check the path." in caplog.messages
    assert load_card(str(tmp_path / "model")).training.bad_images == 1


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_too_many_unreadable_images_stop_training(dino4cells: Command, my_cells: Path, tiny_yaml: str, tmp_path: Path, fault: str) -> None:
    for path in sorted((my_cells / "images").iterdir())[2:8]:
        path.unlink() if fault == "missing" else path.write_bytes(path.read_bytes()[:100])
    answer = dino4cells("train", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "model")
    first = "no such file or directory; check the path" if fault == "missing" else "not an image that can be read"
    assert_refused(answer, "of 24 images cannot be read, more than model.max_bad_images (1.0%) allows", f"{my_cells}/images/00", first)
    assert not (tmp_path / "model" / "manifest.json").exists()


def test_no_image_can_be_read(dino4cells: Command, my_cells: Path, tiny_yaml: str, tmp_path: Path) -> None:
    shutil.rmtree(my_cells / "images")
    answer = dino4cells("train", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "model")
    assert_refused(answer, f"{my_cells}/metadata.csv: none of the first 20 images can be read", f"{my_cells}/images/000.png: no such file")


def test_extraction_writes_a_row_for_an_unreadable_image(dino4cells: Command, my_cells: Path, finished: Path, tmp_path: Path) -> None:
    (my_cells / "images" / "005.png").unlink()
    (my_cells / "images" / "007.png").write_bytes(b"no image")
    features = tmp_path / "features"
    answer = dino4cells("extract", "--model", finished / "model", "--data", my_cells, "--output", features)
    assert answer.code == 0, answer.err
    assert "wrote 24 cells × 192 features, 2 of them without features (see Metadata_dino_error)" in answer.out
    table, whole = read_features(str(features)), read_features(str(finished / "features"))
    readable = ~np.isin(np.arange(24), [5, 7])
    assert np.flatnonzero(np.isnan(table.dino).any(axis=1)).tolist() == [5, 7]
    assert np.allclose(table.dino[readable], whole.dino[readable], atol=1e-5)
    assert table.metadata["dino_error"].dropna().tolist() == [
        f"{my_cells}/images/005.png: no such file or directory; check the path.",
        f"{my_cells}/images/007.png: not an image that can be read (it does not begin as a PNG, JPEG, TIFF or NPY does); "
        "export it again as PNG or TIFF, or delete its row.",
    ]
    judged = dino4cells("classify", "--features", features, "--output", tmp_path / "classes", "--data", my_cells, "--folds", 2)
    assert judged.code == 0, judged.err
    assert "24, 2 unreadable" in judged.out
    assert "2 of 24 cells have no features" in " ".join(judged.out.split())


def test_no_image_can_be_read_in_extraction(dino4cells: Command, my_cells: Path, finished: Path, tmp_path: Path) -> None:
    shutil.rmtree(my_cells / "images")
    answer = dino4cells("extract", "--model", finished / "model", "--data", my_cells, "--output", tmp_path / "features")
    assert_refused(
        answer, "none of the first 20 images can be read", f"{my_cells}/images/000.png: no such file or directory; check the path"
    )


def test_another_number_of_channels_than_the_configuration_announces(
    dino4cells: Command, cells: str, tiny_yaml: str, tmp_path: Path
) -> None:
    answer = dino4cells("train", "--config", tiny_yaml, "--data", cells, "--output", tmp_path / "model", "--num_channels", 5)
    assert_refused(
        answer, f"{cells}/images/000.png: has 4 channels and the configuration expects 5", "correct model.num_channels or the images"
    )


def test_another_number_of_channels_than_the_model_has(dino4cells: Command, my_cells: Path, finished: Path, tmp_path: Path) -> None:
    for path in (my_cells / "images").iterdir():
        Image.open(path).convert("RGB").save(path)
    (my_cells / "channels.txt").write_text("microtubules\nprotein\nnucleus\n")
    answer = dino4cells("extract", "--model", finished / "model", "--data", my_cells, "--output", tmp_path / "features")
    parts = ["the channels are microtubules, protein, nucleus", "the model was trained on microtubules, protein, nucleus, ER"]
    assert_refused(answer, f"{my_cells}/metadata.csv: ", *parts, "give data with the model's channels")


def test_the_models_channels_in_another_order(dino4cells: Command, my_cells: Path, finished: Path, tmp_path: Path) -> None:
    (my_cells / "channels.txt").write_text("protein\nmicrotubules\nnucleus\nER\n")
    answer = dino4cells("extract", "--model", finished / "model", "--data", my_cells, "--output", tmp_path / "features")
    assert_refused(answer, "the channels are protein, microtubules, nucleus, ER", "add --channels microtubules,protein,nucleus,ER.")


def test_channel_names_that_do_not_fit_the_images(dino4cells: Command, my_cells: Path, tiny_yaml: str, tmp_path: Path) -> None:
    (my_cells / "channels.txt").write_text("DNA\nactin\n")
    answer = dino4cells("train", "--config", tiny_yaml, "--data", my_cells, "--output", tmp_path / "model")
    assert_refused(answer, f"{my_cells}/images/000.png: has 4 channels", "channels.txt names 2 (DNA, actin)", "make them agree")


# The configuration


def test_a_batch_that_is_larger_than_the_data(dino4cells: Command, cells: str, tiny_yaml: str, tmp_path: Path) -> None:
    answer = dino4cells("train", "--config", tiny_yaml, "--data", cells, "--output", tmp_path / "model", "--model.batch_size", 25)
    assert_refused(answer, "model.batch_size: a batch of 25 images", "larger than the data (24 images)", "use a batch of at most 24")


@pytest.mark.parametrize("command", ["config", "train", "run"])
def test_a_wrong_value_is_told_with_file_line_and_key(dino4cells: Command, cells: str, tmp_path: Path, command: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  arch: vit_tiny\n  epochs: many\n")
    data = [] if command == "config" else ["--data", cells, "--output", tmp_path / "out"]
    answer = dino4cells(command, "--config", path, *data)
    assert_refused(answer, f"{path}, line 3: model.epochs must be a whole number, not 'many'; correct it, or leave the key out for 100")


def test_an_unknown_key_is_a_warning_with_a_suggestion(dino4cells: Command, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("model:\n  epoch: 3\n")
    answer = dino4cells("config", "--config", path, "--log", "text")
    assert answer.code == 0
    assert answer.err == f"warning: {path}, line 2: model.epoch is not known and not used; did you mean epochs?\n"


def test_an_unknown_transform(dino4cells: Command, cells: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("global_transfo1:\n  RandomResizeCrop: [True, {size: 32}]\n")
    answer = dino4cells("train", "--config", path, "--data", cells, "--output", tmp_path / "model")
    assert_refused(
        answer, f"{path}, line 2: global_transfo1.RandomResizeCrop is no transform that is known here; did you mean RandomResizedCrop?"
    )


def test_a_wrong_parameter_of_a_transform(dino4cells: Command, cells: str, tiny_yaml: str, tmp_path: Path) -> None:
    words = ["train", "--config", tiny_yaml, "--data", cells, "--output", tmp_path / "model"]
    answer = dino4cells(*words, "--global_aug1.Jigsaw", "[true, {q: 0.5}]")
    assert_refused(answer, "global_aug1.Jigsaw.q: Jigsaw takes p (a number from 0 to 1", "not q")


def test_a_configuration_that_is_not_there(dino4cells: Command, tmp_path: Path) -> None:
    answer = dino4cells("train", "--config", tmp_path / "config.yaml")
    assert_refused(answer, f"{tmp_path}/config.yaml: no such file or directory; check the path.")


def test_gpus_that_are_none(dino4cells: Command, cells: str, tiny_yaml: str, tmp_path: Path) -> None:
    answer = dino4cells("train", "--config", tiny_yaml, "--data", cells, "--output", tmp_path / "model", "--gpus", "first")
    assert_refused(answer, "--gpus: 'first' is no list of different GPU numbers; write for example --gpus 0,1.")


# Storage


def test_a_store_without_credentials_is_named_soon(
    dino4cells: Command, tiny_yaml: str, tmp_path: Path, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    begin = time.monotonic()
    answer = dino4cells("train", "--config", tiny_yaml, "--data", f"{bucket}/cells", "--output", tmp_path / "model")
    assert time.monotonic() - begin < 20
    assert_refused(answer, f"{bucket}/cells/metadata.csv: there are no credentials", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def test_an_output_that_cannot_be_written_is_named_before_training(
    dino4cells: Command, cells: str, tiny_yaml: str, s3: Callable[[], str], tmp_path: Path
) -> None:
    s3()
    answer = dino4cells("train", "--config", tiny_yaml, "--data", cells, "--output", "s3://no-such-bucket/model")
    assert_refused(answer, "s3://no-such-bucket/model", "the bucket does not exist; create it, or correct its name")
    assert '"train"' not in answer.err
    (tmp_path / "notes").write_text("a file")
    answer = dino4cells("train", "--config", tiny_yaml, "--data", cells, "--output", tmp_path / "notes" / "model")
    assert_refused(answer, f"{tmp_path}/notes/model", "(Not a directory); check the path.")
    assert '"train"' not in answer.err


# Finished results


def test_a_finished_result_is_kept_without_overwrite(dino4cells: Command, finished: Path, cells: str, tiny_yaml: str) -> None:
    before = {path: path.read_bytes() for path in sorted(finished.rglob("*")) if path.is_file()}
    sentence = "holds a finished result already; choose another output, or pass --overwrite to replace it."
    trained = dino4cells("train", "--config", tiny_yaml, "--data", cells, "--output", finished / "model", "--lr", "0.001")
    assert_refused(trained, f"{finished}/model: {sentence}")
    extracted = dino4cells("extract", "--model", finished / "model", "--data", cells, "--output", finished / "features")
    assert_refused(extracted, f"{finished}/features: {sentence}")
    judged = dino4cells("classify", "--features", finished / "features", "--output", finished / "features")
    assert_refused(judged, f"{finished}/features: {sentence}")
    assert {path: path.read_bytes() for path in sorted(finished.rglob("*")) if path.is_file()} == before


def test_overwrite_keeps_a_finished_result_until_there_is_a_new_one(
    dino4cells: Command, finished: Path, cells: str, tiny_yaml: str, tmp_path: Path
) -> None:
    model = shutil.copytree(finished / "model", tmp_path / "model")
    words = ["train", "--config", tiny_yaml, "--output", model, "--overwrite"]
    fails = dino4cells(*words, "--data", cells, "--model.batch_size", 25)
    assert_refused(fails, "larger than the data")
    before = open_artifact(str(model), "model").fingerprint
    assert before == open_artifact(str(finished / "model"), "model").fingerprint
    replaced = dino4cells(*words, "--data", cells, "--model.seed", 3)
    assert replaced.code == 0, replaced.err
    assert open_artifact(str(model), "model").fingerprint != before


def test_a_damaged_model(dino4cells: Command, finished: Path, cells: str, tmp_path: Path) -> None:
    model = Path(shutil.copytree(finished / "model", tmp_path / "model"))
    words = ["extract", "--model", model, "--data", cells, "--output", tmp_path / "features"]
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused(dino4cells(*words), f"{weights}: the file is not the one that was written (SHA-256 differs); make the model again.")
    weights.write_bytes(content[:-1])
    assert_refused(dino4cells(*words), f"{weights}: has {len(content) - 1} bytes where {len(content)} were written")
    weights.unlink()
    assert_refused(dino4cells(*words), f"{weights}: the file is missing from this model")
    (model / "manifest.json").unlink()
    assert_refused(dino4cells(*words), f"{model}: is no complete model directory (manifest.json is missing)")
    shutil.rmtree(model)
    assert_refused(dino4cells(*words), f"{model}: there is no model directory here; check the path.")
    assert not (tmp_path / "features").exists()


def test_features_given_as_a_model(dino4cells: Command, finished: Path, cells: str, tmp_path: Path) -> None:
    answer = dino4cells("extract", "--model", finished / "features", "--data", cells, "--output", tmp_path / "features")
    assert_refused(answer, f"{finished}/features: is a features directory where a model directory is needed; give the URL of one.")
    answer = dino4cells("classify", "--features", finished / "model", "--output", tmp_path / "classes")
    assert_refused(answer, f"{finished}/model: is a model directory where a features directory is needed; give the URL of one.")


def test_no_model_given(dino4cells: Command, cells: str, tmp_path: Path) -> None:
    assert_refused(dino4cells("extract", "--data", cells, "--output", tmp_path / "features"), "--model: is not given")


def test_a_launcher_that_needs_a_cluster(dino4cells: Command, cells: str, tmp_path: Path) -> None:
    words = ["run", "--data", cells, "--output", tmp_path / "runs", "--launcher"]
    assert_refused(dino4cells(*words, "pytorchjob"), "launcher: 'pytorchjob' starts pods and this is no step", "use 'local' here")
    assert_refused(dino4cells(*words, "slurm"), "launcher: 'slurm' is not known; choose one of local, pytorchjob.")
    assert not (tmp_path / "runs").exists()
