"""`data validate` and `data stats`: what they say about a table, what is wrong with it to the last cell, by one process and by two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image

from dino4cells.augment.normalization import with_data_statistics
from dino4cells.config import Config, load_config
from dino4cells.data.dataset import CellImages
from dino4cells.data.findings import Findings, Span
from dino4cells.data.layout import Layout
from dino4cells.data.metadata import read_metadata
from dino4cells.data.source import image_source
from dino4cells.data.statistics import measure
from dino4cells.data.validate import validate
from dino4cells.data.validate_table import validate_table

Command = Callable[..., Any]

SIZES = [(8, 8), (5, 9), (12, 4)]
COUNT = 70  # more than one piece of work


def look(directory: Path, processes: int = 1, **model: object) -> Findings:
    config = load_config(None, preset="none", overrides={f"model.{key}": value for key, value in model.items()})
    return validate(read_metadata(str(directory), layout=Layout.of(config.model)), config, processes=processes)


def said(findings: Findings) -> dict[str, tuple[int, list[str]]]:
    return {problem.kind: (problem.count, problem.examples) for problem in findings.problems}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for row in range(COUNT):
        Image.fromarray(random.integers(0, 256, (*SIZES[row % 3], 3), dtype=np.uint8)).save(tmp_path / f"{row}.png")
    frame = pd.DataFrame({"file": [f"{row}.png" for row in range(COUNT)], "ID": [f"field {row // 2}" for row in range(COUNT)]})
    frame["cell_type"] = [("U2OS", "HeLa", "HeLa")[row % 3] for row in range(COUNT)]
    frame["plate"] = [row % 2 for row in range(COUNT)]
    frame["dose"] = [None if row < 4 else row % 5 for row in range(COUNT)]
    frame.to_csv(tmp_path / "metadata.csv", index=False)
    (tmp_path / "channels.txt").write_text("DNA\nER\nactin\n")
    return tmp_path


def plant(cells: Path) -> None:
    """One or two of every fault."""
    frame = pd.read_csv(cells / "metadata.csv")
    (cells / "3.png").unlink()
    (cells / "40.png").unlink()
    (cells / "5.png").write_bytes(b"")
    (cells / "6.png").write_bytes((cells / "6.png").read_bytes()[:60])
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 4), dtype=np.uint8)).save(cells / "10.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(cells / "12.png")
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(cells / "13.png")
    with Image.open(cells / "0.png") as image:
        image.save(cells / "20.png", compress_level=1)  # other bytes, the same pixels
    frame.loc[30, "file"] = "2.png"
    frame.to_csv(cells / "metadata.csv", index=False)


# What is there


def test_a_table_without_faults_is_described(cells: Path) -> None:
    findings = look(cells)

    assert findings.are_fine
    assert (findings.rows, findings.readable) == (COUNT, COUNT)
    assert findings.channels == {3: COUNT}
    assert findings.channel_names == ["DNA", "ER", "actin"]
    assert findings.heights == Span(least=5, median=8, most=12)
    assert findings.widths == Span(least=4, median=8, most=9)
    assert findings.distinct_sizes == 3
    assert findings.kinds == {"8-bit PNG": COUNT}
    assert {column.name: (column.classes, column.empty) for column in findings.labels} == {
        "cell_type": ({"HeLa": 46, "U2OS": 24}, 0),
        "dose": ({"4.0": 14, "0.0": 13, "1.0": 13, "2.0": 13, "3.0": 13}, 4),
    }
    assert findings.binary_labels == {"plate": 35}


def test_types_of_files_and_their_bits_are_counted(cells: Path) -> None:
    array = np.random.default_rng(1).integers(0, 65536, (3, 8, 8), dtype=np.uint16)
    for row in range(2):
        tifffile.imwrite(cells / f"{row}.png", array + row, photometric="minisblack")
    np.save(cells / "2.npy", np.random.default_rng(0).random((3, 8, 8), dtype=np.float32))
    (cells / "2.npy").replace(cells / "2.png")

    assert look(cells).kinds == {"8-bit PNG": COUNT - 3, "16-bit TIFF": 2, "float32 NPY": 1}


def test_a_channel_without_contrast_is_told_and_is_no_fault(cells: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    array[..., 1] = 0
    Image.fromarray(array).save(cells / "7.png")

    findings = look(cells)
    assert findings.are_fine
    assert findings.constant_channels == {"ER": 1}


# What is wrong


def test_every_planted_fault_is_reported_and_nothing_else(cells: Path) -> None:
    plant(cells)
    findings = look(cells)
    root = str(cells)

    assert said(findings) == {
        "missing": (2, [f"cell {row + 1}: {root}/{row}.png: no such file or directory; check the path." for row in (3, 40)]),
        "unreadable": (
            2,
            [
                f"cell 6: {root}/5.png: the file is empty; export the image again or delete its row.",
                f"cell 7: {root}/6.png: not an image that can be read (the PNG is truncated or damaged); "
                "export it again as PNG or TIFF, or delete its row.",
            ],
        ),
        "channels": (1, [f"cell 11: {root}/10.png: has 4 channels"]),
        "blank": (2, [f"cell 13: {root}/12.png", f"cell 14: {root}/13.png"]),
        "same file": (1, [f"cell 31: {root}/2.png: is the file of cell 3 too"]),
        "same content": (1, [f"cell 21: {root}/20.png: has the pixels of cell 1 ({root}/0.png)"]),
    }
    assert findings.readable == COUNT - 4
    assert findings.channels == {3: COUNT - 5, 4: 1}


def test_only_the_first_few_of_many_faults_are_named(cells: Path) -> None:
    for row in range(30):
        (cells / f"{row}.png").unlink()
    (problem,) = look(cells).problems
    assert (problem.kind, problem.count, len(problem.examples)) == ("missing", 30, 5)


def test_two_processes_say_what_one_says(cells: Path) -> None:
    plant(cells)
    alone, together = look(cells).model_dump(), look(cells, processes=2).model_dump()
    for each in (alone, together):
        del each["seconds"], each["images_per_second"]
    assert alone == together


def test_images_that_training_would_refuse_are_a_fault(cells: Path) -> None:
    (cells / "channels.txt").unlink()
    found = said(look(cells, num_channels=5))
    assert found == {
        "configuration": (
            COUNT,
            [f"{cells}/0.png: has 3 channels and the configuration expects 5; correct model.num_channels or the images."],
        )
    }
    assert list(said(look(cells, image_mode="normalized_4_channels"))) == ["configuration"]
    (cells / "channels.txt").write_text("DNA\nER\n")
    count, examples = said(look(cells))["channels"]
    assert (count, examples[0]) == (COUNT, f"cell 1: {cells}/0.png: has 3 channels")


def test_files_that_name_their_channels_otherwise_are_told(tmp_path: Path) -> None:
    for row, names in enumerate((["DNA", "ER"], ["DNA", "ER"], ["ER", "DNA"])):
        array = np.random.default_rng(row).integers(0, 256, (2, 8, 8), dtype=np.uint8)
        tifffile.imwrite(
            tmp_path / f"{row}.tif", array, ome=True, photometric="minisblack", metadata={"axes": "CYX", "Channel": {"Name": names}}
        )
    (tmp_path / "metadata.csv").write_text("file\n0.tif\n1.tif\n2.tif\n")
    findings = look(tmp_path)
    assert findings.channel_names == ["DNA", "ER"]
    assert said(findings) == {"channel names": (1, ["ER, DNA (1 files)"])}


def test_strips_and_files_of_single_channels_are_looked_at(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for well in ("A", "B"):
        Image.fromarray(random.integers(0, 256, (8, 24), dtype=np.uint8)).save(tmp_path / f"{well}.png")
        for stain in ("DNA", "ER"):
            Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{well}_{stain}.png")
    (tmp_path / "metadata.csv").write_text("Image_Name,channel_width,well\nA.png,8,A\nB.png,7,B\n")

    strips = look(tmp_path, datatype="CellPainting")
    assert strips.channels == {2: 1}
    assert "the strip is 24 px wide, which is no multiple of its channel_width of 7 px" in said(strips)["unreadable"][1][0]
    assert look(tmp_path, datatype="CellPainting", mask="ignore").channels == {3: 1}
    single = look(tmp_path, file_pattern="{well}_{channel}.png", channels="DNA,ER")
    assert single.are_fine
    assert single.channels == {2: 2}
    (tmp_path / "B_ER.png").unlink()
    assert list(said(look(tmp_path, file_pattern="{well}_{channel}.png", channels="DNA,ER"))) == ["missing"]


# The command


def test_the_command_ends_with_0_when_all_is_fine_and_2_when_not(dino4cells: Command, cells: Path) -> None:
    fine = dino4cells("data", "validate", "--data", cells)
    assert fine.code == 0, fine.err
    assert "Nothing is wrong." in fine.out
    assert "3: DNA, ER, actin" in fine.out
    plant(cells)
    wrong = dino4cells("data", "validate", "--data", cells)
    assert wrong.code == 2
    assert "missing: 2 cells, there is no such file" in wrong.out
    assert f"cell 4: {cells}/3.png: no such file or directory; check the path." in wrong.out
    assert "Nothing is wrong" not in wrong.out


def test_the_command_prints_json_for_programs(dino4cells: Command, cells: Path) -> None:
    plant(cells)
    answer = dino4cells("data", "validate", "--data", cells, "--json")
    assert answer.code == 2
    findings = Findings.model_validate_json(answer.out)
    assert findings.problems[0].kind == "missing"
    assert findings.rows == COUNT


def test_the_command_takes_the_table_and_any_key_from_a_configuration(dino4cells: Command, cells: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"model:\n  data_path: {cells}/metadata.csv\n  num_channels: 3\n")
    assert dino4cells("data", "validate", "--config", path).code == 0
    answer = dino4cells("data", "validate", "--config", path, "--num_channels", 4)
    assert answer.code == 2
    assert "configuration: " in answer.out


def test_a_table_that_cannot_be_read_is_one_sentence(dino4cells: Command, tmp_path: Path) -> None:
    answer = dino4cells("data", "validate", "--data", tmp_path)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {tmp_path}/metadata.csv: no such file")
    answer = dino4cells("data", "stats")
    assert answer.err.startswith("error: model.data_path: is not given; say where the table of cells (metadata.csv) is")


# Statistics


def pooled(cells: Path, rows: range | list[int]) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.concatenate([np.asarray(Image.open(cells / f"{row}.png")).reshape(-1, 3) for row in rows]) / 255
    return pixels.mean(axis=0), pixels.std(axis=0)


def normalize_line(out: str) -> dict[str, list[float]]:
    (line,) = [line for line in out.splitlines() if line.startswith("Normalize: ")]
    active, parameters = yaml.safe_load(line)["Normalize"]
    assert active is True
    return dict(parameters)


def test_mean_and_deviation_are_those_of_the_true_pixels(dino4cells: Command, cells: Path) -> None:
    mean, deviation = pooled(cells, range(COUNT))
    answer = dino4cells("data", "stats", "--data", cells)
    assert answer.code == 0, answer.err
    line = normalize_line(answer.out)
    np.testing.assert_allclose(line["mean"], mean, atol=6e-6)
    np.testing.assert_allclose(line["std"], deviation, atol=6e-6)
    numbers = json.loads(dino4cells("data", "stats", "--data", cells, "--json").out)
    assert numbers["Normalize"] == line
    assert [channel["channel"] for channel in numbers["channels"]] == ["DNA", "ER", "actin"]


@pytest.mark.parametrize("mode", ["normalized", "one_channel", "single_channel_r"])
def test_the_line_has_the_numbers_of_normalize_by_the_data(dino4cells: Command, cells: Path, mode: str) -> None:
    (cells / "channels.txt").write_text("red\ngreen\nblue\n")
    overrides = {"model.image_mode": mode, "normalization.Normalize": "[True, {mean: data, std: data}]"}
    config = load_config(None, preset="none", overrides=overrides)
    source = image_source(read_metadata(str(cells)), config.model)
    resolved = with_data_statistics(config, CellImages(source))
    answer = dino4cells("data", "stats", "--data", cells, "--image_mode", mode, "--sample", 1000)
    assert answer.code == 0, answer.err
    line = normalize_line(answer.out)
    assert dict(resolved.section("normalization"))["Normalize"] == line
    assert len(line["mean"]) == source.in_channels
    if mode == "one_channel":
        assert line["mean"][0] == pytest.approx(pooled(cells, range(COUNT))[0].mean(), abs=6e-6)


def test_a_sample_is_drawn_evenly_and_two_processes_agree_with_one(cells: Path) -> None:
    source = image_source(read_metadata(str(cells)), Config().model)
    alone = measure(source, 40, processes=1)
    assert alone == measure(source, 40, processes=2)
    mean, deviation = pooled(cells, [place * COUNT // 40 for place in range(40)])
    np.testing.assert_allclose(alone.mean_and_deviation()[0], mean, atol=1e-9)
    np.testing.assert_allclose(alone.mean_and_deviation()[1], deviation, atol=1e-9)


def test_images_that_cannot_be_read_do_not_count_and_are_told(dino4cells: Command, cells: Path) -> None:
    (cells / "69.png").write_bytes(b"no image")
    mean, _ = pooled(cells, range(69))
    answer = dino4cells("data", "stats", "--data", cells)
    np.testing.assert_allclose(normalize_line(answer.out)["mean"], mean, atol=6e-6)
    assert "1 images could not be read and do not count" in answer.out
    assert f"{cells}/69.png: not an image" in answer.out


def test_a_table_is_looked_at_without_its_images(cells: Path, dino4cells: Command) -> None:
    plant(cells)
    whole = look(cells)
    config = load_config(None, preset="none", overrides={})
    found = validate_table(read_metadata(str(cells)), config)
    assert (found.images_seen, found.rows, found.labels) == (False, COUNT, whole.labels)
    assert {kind: count for kind, (count, _) in said(found).items()} == {
        kind: count for kind, (count, _) in said(whole).items() if kind in ("missing", "same file")
    }
    ended = dino4cells("data", "validate", "--data", cells, "--no-images")
    assert ended.code == 2
    assert "missing: " in ended.out
    assert "at no image" in ended.out


def test_names_that_are_written_otherwise_than_they_are_listed_are_not_missing(tmp_path: Path) -> None:
    for name in ("a.png", "folder/b.png", "c_DNA.png", "c_ER.png", "d_DNA.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "channels.txt").write_text("DNA\nER\n")
    files = ["./a.png", f"{tmp_path}/folder//b.png", "c_{channel}.png", "d_{channel}.png", "e.png"]
    pd.DataFrame({"file": files}).to_csv(tmp_path / "metadata.csv", index=False)
    found = validate_table(read_metadata(str(tmp_path)), load_config(None))
    assert said(found) == {"missing": (2, ["cell 4: d_{channel}.png", "cell 5: e.png"])}
