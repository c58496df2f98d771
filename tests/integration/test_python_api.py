"""`import dino4cells`, as a notebook uses it, on a model that has seen a few tiny cells."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dino4cells
from dino4cells.api import classify
from dino4cells.artifacts import open_artifact
from dino4cells.config import Config
from dino4cells.errors import ConfigError, DataError
from dino4cells.models.backbones import build_backbone
from tests.conftest import Finished
from tests.unit.simulated_features import write_features

SIZES = ((32, 32), (40, 24), (32, 32), (17, 50))
CHANNELS = ("microtubules", "protein", "nucleus", "ER")


@pytest.fixture(scope="module")
def place(tiny_config: Callable[..., Config], cells: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the model that `dino4cells.train` made of a configuration and a keyword."""
    place = tmp_path_factory.mktemp("python")
    card = dino4cells.train(tiny_config(), data=cells, output=place / "model", epochs=1)
    assert card.training.samples_seen == 24
    return place


@pytest.fixture(scope="module")
def model(place: Path) -> dino4cells.Model:
    return dino4cells.load_model(place / "model")


@pytest.fixture(scope="module")
def mixed(draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine images of many sizes, the last one with 16 bits."""
    directory = tmp_path_factory.mktemp("mixed") / "data"
    draw_cells(directory, 9, SIZES, seed=1)
    np.save(directory / "images" / "008.npy", np.random.default_rng(2).integers(0, 65536, (4, 32, 32), dtype=np.uint16))
    table = pd.read_csv(directory / "metadata.csv")
    table.loc[8, "file"] = "images/008.npy"
    table.to_csv(directory / "metadata.csv", index=False)
    return directory


def arrays(directory: Path) -> list[np.ndarray]:
    """The images of a directory, C×H×W, in the order of its table."""
    files = [directory / file for file in pd.read_csv(directory / "metadata.csv")["file"]]
    return [np.load(file) if file.suffix == ".npy" else np.array(Image.open(file)).transpose(2, 0, 1) for file in files]


def test_importing_the_package_does_not_import_torch() -> None:
    script = """
import sys, dino4cells
assert "torch" not in sys.modules and "pydantic" not in sys.modules
assert set(dino4cells.__all__) < set(dir(dino4cells))
try:
    dino4cells.trian
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "module 'dino4cells' has no attribute 'trian'\n"), done.stderr


def test_predictions_are_those_of_the_command(
    tmp_path: Path, cells: str, dino4cells: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = importlib.import_module("dino4cells")
    monkeypatch.setitem(sys.modules, "umap", None)  # the report's map does without, which takes less time
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(40)], "ID": [str(row) for row in range(40)]})
    frame["cell_type"] = [("HeLa", "U2OS")[row % 2] for row in range(40)]
    values = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    values[1::2, 0] += 6
    features = write_features(str(tmp_path / "told-apart"), frame, values)
    assert dino4cells("classify", "--features", features, "--output", tmp_path / "lines", "--label", "cell_type", "--folds", 2).code == 0
    card = package.predict(tmp_path / "lines", features=features, output=tmp_path / "predicted")
    assert (card.rows, card.failed_rows, card.counts) == (40, 0, {"HeLa": 20, "U2OS": 20})
    assert dino4cells("predict", tmp_path / "lines", "--features", features, "--output", tmp_path / "again").code == 0
    ours, theirs = (pd.read_parquet(tmp_path / name / "predictions.parquet") for name in ("predicted", "again"))
    pd.testing.assert_frame_equal(ours, theirs)
    with pytest.raises(ConfigError, match="channels"):
        package.predict(tmp_path / "lines", data=cells, output=tmp_path / "none", chanels=["protein"])


def test_classify_stays_the_verb_when_the_package_of_that_name_is_imported() -> None:
    package = importlib.import_module("dino4cells.classify")
    assert package.Folds.__module__ == "dino4cells.classify.splits"
    assert dino4cells.classify is classify


def test_the_model_has_its_card_in_words_among_its_files(place: Path) -> None:
    artifact = open_artifact(str(place / "model"), "model")
    text = artifact.read_bytes("README.md").decode()
    assert "`microtubules`, `protein`, `nucleus`, `ER`" in text
    assert "24 images" in text
    assert 'dino4cells.load_model("model")' in text


def test_embed_gives_what_extract_writes_for_the_same_images(model: dino4cells.Model, place: Path, mixed: Path) -> None:
    card = dino4cells.extract(place / "model", data=mixed, output=place / "mixed", precision="float32")
    written = dino4cells.read_features(place / "mixed").dino
    embedded = model.embed(arrays(mixed), batch_size=3)
    assert (card.rows, card.failed_rows, embedded.dtype) == (9, 0, np.float32)
    np.testing.assert_allclose(embedded, written, atol=1e-5, rtol=0)
    assert np.abs(embedded[0] - embedded[1]).max() > 1e-2


def test_embed_has_the_choices_of_extract(place: Path, mixed: Path) -> None:
    choices: dict[str, object] = {"tokens": "class_and_patches", "blocks": 2, "keep_channels": ["nucleus", "ER"]}
    dino4cells.extract(place / "model", data=mixed, output=place / "choices", **choices)
    embedded = dino4cells.load_model(place / "model", **choices).embed(arrays(mixed))
    assert embedded.shape == (9, 4 * 192)
    np.testing.assert_allclose(embedded, dino4cells.read_features(place / "choices").dino, atol=1e-5, rtol=0)


def test_numpy_and_torch_integers_and_floats_one_image_and_many_give_the_same(model: dino4cells.Model, mixed: Path) -> None:
    images = np.stack([image for image in arrays(mixed)[:8] if image.shape == (4, 32, 32)])
    expected = model.embed(images)
    assert expected.shape == (4, 192)
    for same in (
        torch.from_numpy(images),
        list(images),
        images.astype(np.float64) / 255,
        torch.from_numpy(images).float() / 255,
        images.astype(np.uint16) * 257,
        images[:, :, ::-1][:, :, ::-1].astype(">u2") * np.uint16(257),
    ):
        np.testing.assert_allclose(model.embed(same), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(model.embed(images.astype(np.int64), white=255), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(model.embed(images.astype(np.float32), white=255), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(model.embed(images[0]), expected[:1], atol=1e-5, rtol=0)
    assert np.array_equal(model.embed(images), expected)
    assert model.embed([]).shape == (0, 192)
    assert model.embed(images[:0]).shape == (0, 192)


def test_channels_are_found_by_their_names(model: dino4cells.Model, mixed: Path) -> None:
    image = arrays(mixed)[0]
    assert model.channels == model.card.channels == CHANNELS
    swapped = np.stack([image[2], image[0] // 2, image[3], image[1], image[0]])
    names = ["nucleus", "actin", "ER", "protein", "microtubules"]
    np.testing.assert_allclose(model.embed(swapped, channels=names), model.embed(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((4, 16, 16), np.float32) + 3, {}, "floating point numbers from 3 to 3, which must lie in [0, 1]; divide them"),
        (np.full((4, 16, 16), np.nan), {}, "from nan to nan"),
        (np.zeros((4, 16, 16), np.int16) - 1, {}, "integers from -1 to -1, which must lie in [0, 32767]"),
        (np.ones((4, 16, 16), np.int64), {}, "integers of type int64 do not say which value means 1; give white=255"),
        (np.zeros((4, 16, 16), np.uint16) + 5000, {"white": 4095}, "integers from 5000 to 5000, which must lie in [0, 4095]"),
        (np.zeros((4, 16, 16), np.uint8), {"white": 0}, "white: must be above 0, not 0"),
        (np.zeros((2, 3, 16, 16), np.uint8), {}, "image 0: has 3 channels of 16×16 px where 4 are expected (microtubules, protein"),
        (np.zeros((16, 16, 4), np.uint8), {}, "(is the channel the last dimension?)"),
        (np.zeros((16, 16), np.uint8), {}, "an array of shape 16×16 is given"),
        ([np.zeros((4, 16, 16)), np.zeros((1, 4, 16, 16))], {}, "image 1: has the shape 1×4×16×16"),
        (np.zeros((4, 16, 4), np.uint8), {}, "image 0: is 16×4 px and the model takes 8 px and more"),
        (np.array([["a"]]), {}, "images: is of type <U1"),
        (np.zeros((4, 16, 16), np.uint8), {"channels": ["DAPI", "protein", "ER", "actin"]}, "there is no microtubules and no nucleus"),
    ],
)
def test_images_that_do_not_fit_are_refused_in_one_sentence(
    model: dino4cells.Model, images: np.ndarray, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as refused:
        model.embed(images, **options)
    assert message in str(refused.value)
    assert str(refused.value).endswith(".")


def test_attention_has_a_map_for_each_head_and_image(model: dino4cells.Model, mixed: Path) -> None:
    images = np.stack([image for image in arrays(mixed)[:8] if image.shape == (4, 32, 32)])
    maps = model.attention(images)
    assert (maps.shape, maps.dtype) == ((4, 3, 4, 4), np.float32)
    assert (maps > 0).all()
    assert (maps.sum(axis=(2, 3)) < 1).all()
    with pytest.raises(DataError, match="images of one size, and these have 32×32 and 40×24"):
        model.attention(arrays(mixed)[:2])


@pytest.mark.parametrize(("mode", "taken", "width"), [("one_channel", 1, 4 * 192), ("single_channel_g", 3, 192)])
def test_a_checkpoint_and_a_mapping_embed_in_any_image_mode_as_extract_does(
    mode: str, taken: int, width: int, place: Path, mixed: Path
) -> None:
    checkpoint = place / f"{mode}.pth"
    torch.save(build_backbone("vit_tiny", 8, 32, taken, seed=3).state_dict(), checkpoint)
    config = {"model": {"image_mode": mode, "channels": list(CHANNELS)}, "testing_transfo": {"self_normalize": [True]}}
    dino4cells.extract(checkpoint, config, data=mixed, output=place / mode, baselines=False, num_workers=0)
    model = dino4cells.load_model(checkpoint, config)
    embedded = model.embed(arrays(mixed))
    assert embedded.shape == (9, width)
    np.testing.assert_allclose(embedded, dino4cells.read_features(place / mode).dino, atol=1e-5, rtol=0)
    assert model.attention(arrays(mixed)[0]).shape == (1, 3 * (width // 192), 4, 4)


def test_the_verbs_take_a_path_and_keywords_and_return_what_they_wrote(place: Path, cells: str, tiny_yaml: str) -> None:
    with pytest.raises(ConfigError, match="epochs"):
        dino4cells.train(tiny_yaml, data=cells, output=place / "none", epochs=-1)
    with pytest.raises(ConfigError, match="no such key"):
        dino4cells.train(tiny_yaml, data=cells, output=place / "none", epcohs=3)
    assert dino4cells.simulate(place / "drawn", cells=2, size=32).cells == len(pd.read_csv(place / "drawn" / "metadata.csv"))
    card = dino4cells.train(tiny_yaml, data=cells, output=place / "again", seed=5, **{"local_transfo.RandomResizedCrop.size": 16})
    assert (card.seed, card.channels) == (5, CHANNELS)
    dino4cells.extract(place / "again", data=cells, output=place / "features")
    with pytest.raises(ConfigError, match="folds"):
        dino4cells.classify(place / "features", output=place / "classes", folds=1)
    with pytest.raises(ConfigError, match="asks for a classifier head; train it by the command dino4cells classify"):
        dino4cells.classify(place / "features", output=place / "classes", train_cell_type=True)
    with pytest.raises(DataError, match="line"):
        dino4cells.classify(place / "features", output=place / "classes", group="line")
