"""Extraction of a few tiny cells: every row, in order, whatever its image, in one process or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dino4cells import steps
from dino4cells.cluster.job import Processes
from dino4cells.cluster.local import LocalLauncher
from dino4cells.config import Config
from dino4cells.errors import ArtifactError, DataError
from dino4cells.features.intensity import intensity_names, intensity_statistics
from dino4cells.features.store import Features, read_features
from dino4cells.models.artifact import TrainedModel, load_model
from dino4cells.models.vit import DinoVisionTransformer

SIZES = ((32, 32), (40, 24), (17, 50), (32, 32), (64, 64))
EMPTY, TINY, MISSING, GREY = 3, 7, 11, 16


@pytest.fixture(scope="module")
def mixed(draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """22 cells of different sizes, of which four cannot be embedded, with columns of every type."""
    directory = tmp_path_factory.mktemp("mixed") / "data"
    draw_cells(directory, 22, SIZES, seed=1)
    images = directory / "images"
    (images / f"{EMPTY:03d}.png").write_bytes(b"")
    Image.fromarray(np.zeros((5, 40, 4), np.uint8), "RGBA").save(images / f"{TINY:03d}.png")
    (images / f"{MISSING:03d}.png").unlink()
    Image.fromarray(np.zeros((32, 32), np.uint8), "L").save(images / f"{GREY:03d}.png")
    frame = pd.read_csv(directory / "metadata.csv").iloc[::-1]  # an order that no listing of the directory has
    frame["dose"] = [None if row % 3 else row / 2 for row in range(22)]
    frame["remarks"] = None
    frame.to_csv(directory / "metadata.csv", index=False)
    return str(directory)


@pytest.fixture(scope="module")
def alone(model: str, mixed: str, tmp_path_factory: pytest.TempPathFactory) -> Features:
    """The features of `mixed`, by one process."""
    output = str(tmp_path_factory.mktemp("alone") / "features")
    card = steps.extract(model, data=mixed, output=output, baselines=True)
    assert (card.rows, card.failed_rows) == (22, 4)
    return read_features(output)


def failed_rows(features: Features) -> dict[str, str]:
    errors = features.metadata[["file", "dino_error"]].dropna()
    return dict(zip(errors["file"], errors["dino_error"], strict=True))


def one_at_a_time(model: TrainedModel, directory: str, file: str) -> np.ndarray:
    """The handbook's extraction, by hand: the image at its own size, every channel normalized by itself."""
    image = torch.from_numpy(np.array(Image.open(Path(directory, file)))).permute(2, 0, 1).float() / 255
    mean, deviation = image.mean(dim=(1, 2), keepdim=True), image.std(dim=(1, 2), correction=0, keepdim=True)
    with torch.inference_mode():
        tokens: np.ndarray = model.backbone(((image - mean) / (deviation + 1e-7))[None])[0].numpy()
    return tokens


def test_every_row_of_the_csv_is_there_in_its_order_with_its_columns(alone: Features, mixed: str) -> None:
    frame = pd.read_csv(Path(mixed, "metadata.csv"))
    pd.testing.assert_frame_equal(alone.metadata[list(frame.columns)].astype({"remarks": float}), frame, check_dtype=False)
    assert alone.metadata["plate"].dtype == np.int64
    assert alone.metadata["remarks"].isna().all()
    assert alone.dino.shape == (22, 192)
    assert alone.dino.dtype == np.float32


def test_rows_without_a_usable_image_say_why_and_have_no_numbers(alone: Features) -> None:
    reasons = failed_rows(alone)
    assert list(reasons) == [f"images/{row:03d}.png" for row in (GREY, MISSING, TINY, EMPTY)]
    for row, words in {EMPTY: "the file is empty", TINY: "is 5×40 px", MISSING: "no such file", GREY: "has 1 channels"}.items():
        assert words in reasons[f"images/{row:03d}.png"]
        assert f"images/{row:03d}.png" in reasons[f"images/{row:03d}.png"]
    failed = alone.metadata["dino_error"].notna().to_numpy()
    assert np.isnan(alone.dino[failed]).all()
    assert np.isfinite(alone.dino[~failed]).all()
    assert np.isnan(alone.baselines["untrained"][failed]).all()


def test_features_equal_those_of_one_image_at_a_time(alone: Features, model: str, mixed: str) -> None:
    trained = load_model(model)
    for row, (file, error) in enumerate(zip(alone.metadata["file"], alone.metadata["dino_error"], strict=True)):
        if pd.isna(error):
            np.testing.assert_allclose(alone.dino[row], one_at_a_time(trained, mixed, file), rtol=0, atol=1e-5)


def test_baselines_stand_row_for_row_beside_the_features(alone: Features, model: str, mixed: str) -> None:
    untrained = load_model(model).untrained()
    image = torch.from_numpy(np.array(Image.open(Path(mixed, alone.metadata["file"][0])))).permute(2, 0, 1).float() / 255
    mean, deviation = image.mean(dim=(1, 2), keepdim=True), image.std(dim=(1, 2), correction=0, keepdim=True)
    with torch.inference_mode():
        tokens = untrained(((image - mean) / (deviation + 1e-7))[None])[0].numpy()
    np.testing.assert_allclose(alone.baselines["untrained"][0], tokens, rtol=0, atol=1e-5)
    assert alone.baselines["intensity"].shape == (22, len(intensity_names(alone.card.channels)))
    np.testing.assert_allclose(alone.baselines["intensity"][0], intensity_statistics(image.numpy()), atol=1e-5)


def test_two_processes_write_the_same_table_as_one(alone: Features, model: str, mixed: str, tmp_path: Path) -> None:
    output = str(tmp_path / "features")
    card = steps.extract(model, data=mixed, output=output, processes=Processes(LocalLauncher(), per_node=2))
    two = read_features(output)
    assert card.failed_rows == 4
    assert [name for name in two.artifact.names if name.startswith("part-")] == ["part-00000.parquet", "part-00001.parquet"]
    pd.testing.assert_frame_equal(two.metadata, alone.metadata)
    np.testing.assert_allclose(two.dino, alone.dino, rtol=0, atol=1e-5)


def test_the_batch_size_does_not_show_in_the_features(
    alone: Features, model: str, mixed: str, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config({"embedding.batch_size": 5})
    steps.extract(model, config=config, data=mixed, output=str(tmp_path / "features"))
    np.testing.assert_allclose(read_features(str(tmp_path / "features")).dino, alone.dino, rtol=0, atol=1e-5)


def test_bfloat16_gives_the_features_of_float32_but_for_their_last_digits_and_is_told(
    alone: Features, model: str, mixed: str, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config({"embedding.precision": "bfloat16"})
    card = steps.extract(model, config=config, data=mixed, output=str(tmp_path / "features"))
    found = read_features(str(tmp_path / "features")).dino
    usable = alone.metadata["dino_error"].isna().to_numpy()
    lengths = np.linalg.norm(found[usable], axis=1) * np.linalg.norm(alone.dino[usable], axis=1)
    assert ((found[usable] * alone.dino[usable]).sum(axis=1) / lengths).min() > 0.999
    assert not np.allclose(found[usable], alone.dino[usable], rtol=0, atol=1e-5)
    assert np.isnan(found[~usable]).all()
    assert (card.precision, alone.card.precision) == ("bfloat16", "float32")


def test_cells_that_wait_for_others_of_their_size_are_written_in_the_order_of_the_table(
    model: str, draw_cells: Callable[..., str], tmp_path: Path, tiny_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [(24 + 8 * (row % 3), 17 + row % 5) for row in range(30)]
    sizes[4] = (64, 64)  # waits for another to the end
    data = draw_cells(tmp_path / "data", 30, sizes)
    (Path(data) / "images" / "011.png").unlink()
    entered: list[int] = []
    forward = DinoVisionTransformer.forward
    monkeypatch.setattr(DinoVisionTransformer, "forward", lambda self, images: (entered.append(len(images)), forward(self, images))[1])
    steps.extract(model, config=tiny_config({"embedding.batch_size": 4}), data=data, output=str(tmp_path / "features"))
    assert sum(entered) == 29
    assert len(entered) == 10  # of 4 images mostly; in each of the 8 batches there are several sizes
    features = read_features(str(tmp_path / "features"))
    assert list(failed_rows(features)) == ["images/011.png"]
    trained = load_model(model)
    for row, file in enumerate(features.metadata["file"]):
        if row != 11:
            np.testing.assert_allclose(features.dino[row], one_at_a_time(trained, data, file), rtol=0, atol=1e-5)


def test_a_view_that_resizes_embeds_images_of_any_size(model: str, mixed: str, tmp_path: Path, tiny_config: Callable[..., Config]) -> None:
    config = tiny_config({"testing_transfo.Single_cell_Resize": "True", "testing_transfo.Single_cell_Resize.size": 16})
    assert steps.extract(model, config=config, data=mixed, output=str(tmp_path / "features")).failed_rows == 3


def test_channels_in_another_order_are_refused_with_both_lists(model: str, draw_cells: Callable[..., str], tmp_path: Path) -> None:
    data = draw_cells(tmp_path / "data", 4)
    Path(data, "channels.txt").write_text("protein\nmicrotubules\nnucleus\nER\n")
    with pytest.raises(DataError) as refused:
        steps.extract(model, data=data, output=str(tmp_path / "features"))
    assert "protein, microtubules, nucleus, ER" in str(refused.value)
    assert "trained on microtubules, protein, nucleus, ER" in str(refused.value)
    assert not (tmp_path / "features").exists()


def test_names_in_the_configuration_of_a_model_do_not_hide_those_of_the_data(
    cells: str, draw_cells: Callable[..., str], tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    named = str(tmp_path / "model")
    steps.train(tiny_config(epochs=1, channels=["microtubules", "protein", "nucleus", "ER"]), data=cells, output=named)
    data = draw_cells(tmp_path / "data", 4)
    Path(data, "channels.txt").write_text("ER\nprotein\nnucleus\nmicrotubules\n")
    with pytest.raises(DataError, match="the channels are ER, protein, nucleus, microtubules"):
        steps.extract(named, data=data, output=str(tmp_path / "features"))


def test_a_table_with_a_column_of_our_own_is_refused_before_any_image_is_read(
    model: str, draw_cells: Callable[..., str], tmp_path: Path
) -> None:
    data = draw_cells(tmp_path / "data", 4)
    pd.read_csv(Path(data, "metadata.csv")).assign(dino_error="none").to_csv(Path(data, "metadata.csv"), index=False)
    with pytest.raises(DataError, match="the column 'dino_error'"):
        steps.extract(model, data=data, output=str(tmp_path / "features"))


def test_finished_features_are_not_overwritten_unasked(alone: Features, model: str, mixed: str) -> None:
    with pytest.raises(ArtifactError, match="holds a finished result"):
        steps.extract(model, data=mixed, output=alone.artifact.url)
