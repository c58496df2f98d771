"""Packed images: the same as files of their own wherever they are read, standard tar files for others, and damage that is named."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dino4cells import storage
from dino4cells.artifacts import is_complete, open_artifact
from dino4cells.config import ModelConfig
from dino4cells.data import shards as shard_format
from dino4cells.data.dataset import CellImages
from dino4cells.data.layout import Layout
from dino4cells.data.loading import load_batches
from dino4cells.data.metadata import Metadata, read_metadata
from dino4cells.data.packing import pack
from dino4cells.data.sampler import SampleStream
from dino4cells.data.source import image_source
from dino4cells.data.strata import sample_order
from dino4cells.errors import ArtifactError, Dino4CellsError, StorageError

COUNT = 24
PATTERN = Layout(file_pattern="{plate}/{well}_{channel}.tif")


def packed(data: str, to: Path | str, layout: Layout | None = None, **options: object) -> Metadata:
    """The table of images packed into shards of a few rows."""
    metadata = read_metadata(data, layout=layout)
    pack(metadata, metadata.channels, str(to), **{"shard_mb": 1, **options})  # type: ignore[arg-type]
    return read_metadata(str(to), layout=layout)


def pixels(metadata: Metadata, rows: Sequence[int] | None = None, **model: object) -> list[torch.Tensor]:
    images = CellImages(image_source(metadata, ModelConfig.model_validate(model)))
    read = images.read(range(len(metadata)) if rows is None else rows)
    assert all(isinstance(image, torch.Tensor) for image in read)
    return read  # type: ignore[return-value]


def reasons(metadata: Metadata) -> dict[int, str]:
    """Rows that cannot be read, and why."""
    read = CellImages(image_source(metadata, ModelConfig())).read(range(len(metadata)))
    return {row: str(image) for row, image in enumerate(read) if isinstance(image, Dino4CellsError)}


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards and blocks of images that are small."""
    monkeypatch.setattr("dino4cells.data.packing._rows_per_shard", lambda stored, size: 7)
    monkeypatch.setattr(shard_format, "BLOCK_BYTES", 12_000)


@pytest.fixture(scope="module")
def loose(draw_cells: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Cells of several sizes."""
    return draw_cells(tmp_path_factory.mktemp("loose") / "data", COUNT, sizes=[(32, 32), (20, 44), (9, 7)])


@pytest.fixture
def files_per_channel(tmp_path: Path) -> str:
    """A file for each of three channels, by a pattern of columns."""
    directory = tmp_path / "channels"
    for well in range(10):
        (directory / f"p{well % 2}").mkdir(parents=True, exist_ok=True)
        for name in ("DNA", "ER", "actin"):
            image = np.random.default_rng((well, len(name))).integers(0, 2**16, (12, 14), dtype=np.uint16)
            Image.fromarray(image).save(directory / f"p{well % 2}" / f"{well:02d}_{name}.tif")
    rows = "".join(f"p{well % 2},{well:02d}\n" for well in range(10))
    (directory / "metadata.csv").write_text("plate,well\n" + rows)
    (directory / "channels.txt").write_text("DNA\nER\nactin\n")
    return str(directory)


# One interface


def test_packed_images_are_those_of_the_files_in_any_order(loose: str, tmp_path: Path) -> None:
    metadata = packed(loose, tmp_path / "packed")
    expected = pixels(read_metadata(loose))
    shuffled = np.random.default_rng(0).permutation(COUNT).tolist()

    assert same(pixels(metadata), expected)
    assert same(pixels(metadata, [*shuffled, 3, 3]), [expected[row] for row in [*shuffled, 3, 3]])
    assert metadata.fingerprint == read_metadata(loose).fingerprint
    assert metadata.channels == read_metadata(loose).channels
    assert storage.list_files(str(tmp_path / "packed" / "shards")) == [f"cells-{number:06d}.tar" for number in range(4)]


@pytest.mark.parametrize("workers", [0, 1])
def test_training_draws_the_same_images_through_open_blocks_whoever_reads(loose: str, tmp_path: Path, workers: int, tiny_config) -> None:  # type: ignore[no-untyped-def]
    metadata = packed(loose, tmp_path / "packed")
    order = sample_order(metadata, tiny_config())
    assert order.interleaved
    expected = pixels(read_metadata(loose))
    images = CellImages(image_source(metadata, ModelConfig()).buffered(order, 2))  # type: ignore[arg-type]
    stream = SampleStream(order, epochs=2, batch_size=4, rank=1, world_size=2)
    loader = load_batches(images, stream, workers)

    for _ in range(2):
        seen = []
        with iter(loader) as batches:
            for batch in batches:
                for image, (height, width), row in zip(batch.images_BCHW, batch.sizes_B2, batch.index_B, strict=True):
                    assert torch.equal(image[:, :height, :width], expected[int(row)])
                seen += list(zip(batch.epoch_B.tolist(), batch.index_B.tolist(), strict=True))
        assert seen == [pair for batch in stream for pair in batch]
    with iter(loader) as batches:
        assert len(next(batches)) == 2  # and the pass is left early


def test_files_of_channels_are_packed_each_and_read_as_the_configuration_names_them(files_per_channel: str, tmp_path: Path) -> None:
    metadata = packed(files_per_channel, tmp_path / "packed", PATTERN)
    expected = read_metadata(files_per_channel, layout=PATTERN)

    assert same(pixels(metadata), pixels(expected))
    assert same(pixels(metadata, channels=["actin", "DNA"]), pixels(expected, channels=["actin", "DNA"]))
    (tmp_path / "packed" / "channels.txt").unlink()
    unnamed = read_metadata(str(tmp_path / "packed"), layout=PATTERN)
    assert same(pixels(unnamed, channels=["ER"]), pixels(expected, channels=["ER"]))
    with pytest.raises(Dino4CellsError, match=r"p0/00_Golgi.tif: no such file among those packed in .*packed; check the name"):
        pixels(unnamed, channels=["Golgi"])


def test_the_table_may_change_after_it_was_packed(loose: str, tmp_path: Path) -> None:
    packed(loose, tmp_path / "packed")
    expected = pixels(read_metadata(loose))
    frame = pd.read_csv(tmp_path / "packed" / "metadata.csv")
    rows = [20, 3, 3, 11]
    frame.iloc[rows].assign(split="train").to_csv(tmp_path / "packed" / "metadata.csv", index=False)

    assert same(pixels(read_metadata(str(tmp_path / "packed"))), [expected[row] for row in rows])
    order = sample_order(read_metadata(str(tmp_path / "packed")), _config())
    assert sorted(order.draw(0, 0)[0][place] for place in range(4)) == [0, 1, 2, 3]


def test_another_table_finds_the_images_by_their_names(loose: str, tmp_path: Path) -> None:
    packed(loose, tmp_path / "packed")
    (tmp_path / "some.csv").write_text("file\nimages/004.png\nimages/new.png\n")
    metadata = read_metadata(str(tmp_path / "some.csv"), str(tmp_path / "packed"))

    assert same(pixels(metadata, [0]), pixels(read_metadata(loose), [4]))
    assert reasons(metadata) == {
        1: f"images/new.png: no such file among those packed in {tmp_path / 'packed'}; check the name, or pack the images again."
    }


def test_rows_of_one_file_share_it(loose: str, tmp_path: Path) -> None:
    shutil.copytree(loose, tmp_path / "data")
    (tmp_path / "data" / "metadata.csv").write_text("file\nimages/001.png\nimages/000.png\nimages/001.png\n")
    metadata = packed(str(tmp_path / "data"), tmp_path / "packed")
    assert same(pixels(metadata), pixels(read_metadata(str(tmp_path / "data"))))


def test_with_shuffling_off_or_groups_the_order_is_that_of_files(loose: str, tmp_path: Path) -> None:
    metadata = packed(loose, tmp_path / "packed")
    for config in (_config({"model.shuffle_blocks": 0}), _config({"model.sample_single_cells": True})):
        rows = [sample_order(table, config).draw(5, 2)[0].tolist() for table in (metadata, read_metadata(loose))]  # type: ignore[attr-defined]
        assert rows[0] == rows[1]


def _config(overrides: dict[str, object] | None = None):  # type: ignore[no-untyped-def]
    from dino4cells.config import load_config

    return load_config(overrides=overrides or {})


# For other tools


def test_a_shard_is_a_tar_of_the_files_unchanged_named_by_row(loose: str, tmp_path: Path) -> None:
    packed(loose, tmp_path / "packed", with_rows=True)
    with tarfile.open(tmp_path / "packed" / "shards" / "cells-000001.tar") as tar:
        assert tar.getnames() == [f"{row:09d}.{ending}" for row in range(7, 14) for ending in ("png", "json")]
        assert tar.extractfile("000000008.png").read() == Path(loose, "images", "008.png").read_bytes()  # type: ignore[union-attr]
        assert json.load(tar.extractfile("000000008.json"))["protein_location"] == "nucleus"  # type: ignore[arg-type]


@pytest.mark.parametrize("case", ["one file", "file per channel"])
def test_webdataset_reads_the_shards(case: str, loose: str, files_per_channel: str, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    data, layout = (loose, None) if case == "one file" else (files_per_channel, PATTERN)
    packed(data, tmp_path / "packed", layout, with_rows=True)
    shards = sorted(str(path) for path in (tmp_path / "packed" / "shards").iterdir())
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode())

    rows = pd.read_csv(Path(data, "metadata.csv"), dtype=str).to_dict("records")
    assert [sample["__key__"] for sample in samples] == [f"{row:09d}" for row in range(len(rows))]
    assert [{key: str(value) for key, value in sample["json"].items()} for sample in samples] == rows
    endings = {"png"} if case == "one file" else {"0.tif", "1.tif", "2.tif"}
    assert all(endings <= set(sample) for sample in samples)


def test_packing_again_gives_the_same_bytes(loose: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        packed(loose, tmp_path / name)
    one, two = (open_artifact(str(tmp_path / name), shard_format.KIND).manifest.files for name in ("one", "two"))
    assert one == two


# Damage


def test_a_changed_byte_a_missing_and_a_short_shard_are_failures_of_their_rows(loose: str, tmp_path: Path) -> None:
    metadata = packed(loose, tmp_path / "packed")
    assert metadata.shards is not None
    shards = tmp_path / "packed" / "shards"
    place = int(metadata.shards.offset_M[9]) + 30
    content = bytearray((shards / "cells-000001.tar").read_bytes())
    content[place] ^= 1
    (shards / "cells-000001.tar").write_bytes(bytes(content))
    (shards / "cells-000002.tar").unlink()
    short = (shards / "cells-000003.tar").read_bytes()[: int(metadata.shards.offset_M[22]) + 5]
    (shards / "cells-000003.tar").write_bytes(short)
    found = reasons(read_metadata(str(tmp_path / "packed")))

    assert sorted(found) == [9, *range(14, 21), 22, 23]
    offset = int(metadata.shards.offset_M[9])
    assert found[9] == (
        f"images/009.png in {shards}/cells-000001.tar, byte {offset}: is not what was packed (CRC-32 differs); pack the images again."
    )
    assert found[14] == f"images/014.png in {shards}/cells-000002.tar: no such file or directory; check the path."
    assert "images/022.png in" in found[22]


def test_a_directory_whose_packing_was_interrupted_is_refused(loose: str, tmp_path: Path) -> None:
    packed(loose, tmp_path / "packed")
    (tmp_path / "packed" / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"packed: its images are not all packed; wait until they are, or run the same"):
        read_metadata(str(tmp_path / "packed"))


def test_an_index_that_cannot_be_read_is_named(loose: str, tmp_path: Path) -> None:
    packed(loose, tmp_path / "packed")
    (tmp_path / "packed" / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtifactError, match=r"its shards.json or index.parquet is missing or cannot be read; pack the images again"):
        read_metadata(str(tmp_path / "packed"))


# Packing


@pytest.fixture
def with_gaps(loose: str, tmp_path: Path) -> str:
    """Cells of which two have no file."""
    shutil.copytree(loose, tmp_path / "gaps")
    for row in (2, 15):
        Path(tmp_path, "gaps", "images", f"{row:03d}.png").unlink()
    return str(tmp_path / "gaps")


def test_files_that_cannot_be_read_are_refused_and_listed_and_mended_ones_packed(with_gaps: str, loose: str, tmp_path: Path) -> None:
    with pytest.raises(Dino4CellsError) as error:
        packed(with_gaps, tmp_path / "packed")
    assert str(error.value) == (
        f"{with_gaps}/metadata.csv: the files of 2 cells cannot be read; mend them or delete their rows and pack again, which goes on from "
        f"what is in {tmp_path / 'packed'}, or keep their rows with the reason by --skip-unreadable.\n"
        f"  {with_gaps}/images/002.png: no such file or directory; check the path.\n"
        f"  {with_gaps}/images/015.png: no such file or directory; check the path."
    )
    assert not is_complete(str(tmp_path / "packed"))
    for row in (2, 15):
        shutil.copy(Path(loose, "images", f"{row:03d}.png"), Path(with_gaps, "images"))
    kept = (tmp_path / "packed" / "shards" / "cells-000001.tar").stat().st_mtime_ns
    assert same(pixels(packed(with_gaps, tmp_path / "packed")), pixels(read_metadata(loose)))
    assert (tmp_path / "packed" / "shards" / "cells-000001.tar").stat().st_mtime_ns == kept


def test_rows_that_are_packed_without_their_file_keep_the_reason(with_gaps: str, tmp_path: Path) -> None:
    metadata = packed(with_gaps, tmp_path / "packed", skip_unreadable=True)
    missing = "{}/images/{}.png: no such file or directory; check the path. It was so when the images were packed."
    assert reasons(metadata) == {2: missing.format(with_gaps, "002"), 15: missing.format(with_gaps, "015")}
    images = CellImages(image_source(metadata, ModelConfig()).buffered(sample_order(metadata, _config()), 1))  # type: ignore[arg-type]
    assert [isinstance(image, torch.Tensor) for image in images.read(range(COUNT))] == [row not in (2, 15) for row in range(COUNT)]


def test_a_finished_directory_is_replaced_on_demand_alone(loose: str, tmp_path: Path) -> None:
    packed(loose, tmp_path / "packed")
    with pytest.raises(ArtifactError, match=r"packed: holds a finished result already; choose another output, or pass --overwrite"):
        packed(loose, tmp_path / "packed")
    frame = pd.read_csv(Path(loose, "metadata.csv")).head(8)
    shutil.copytree(loose, tmp_path / "other")
    frame.to_csv(tmp_path / "other" / "metadata.csv", index=False)
    metadata = packed(str(tmp_path / "other"), tmp_path / "packed", overwrite=True)

    assert same(pixels(metadata), pixels(read_metadata(loose), range(8)))
    assert len(list((tmp_path / "packed" / "shards").iterdir())) == 2


def test_an_unfinished_packing_of_other_options_is_not_gone_on_with(with_gaps: str, tmp_path: Path) -> None:
    with pytest.raises(Dino4CellsError, match="cannot be read"):
        packed(with_gaps, tmp_path / "packed")
    with pytest.raises(ArtifactError, match=r"packed.packing: belongs to an unfinished packing of other data, or of other options"):
        packed(with_gaps, tmp_path / "packed", with_rows=True, skip_unreadable=True)
    packed(with_gaps, tmp_path / "packed", with_rows=True, skip_unreadable=True, overwrite=True)
    assert not (tmp_path / "packed.packing").exists()


def test_what_is_read_back_otherwise_than_it_was_written_is_an_error(loose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dino4cells.data.shard_writing.sha256_of", lambda url: "0" * 64)
    with pytest.raises(StorageError, match=r"cells-000000.tar: what is read back is not what was written \(SHA-256 differs\)"):
        packed(loose, tmp_path / "packed")


def test_packed_images_are_not_packed_again(loose: str, tmp_path: Path) -> None:
    metadata = packed(loose, tmp_path / "packed")
    with pytest.raises(Dino4CellsError, match="its images are packed already; give the table of the files of their own"):
        pack(metadata, None, str(tmp_path / "again"))


def test_the_size_of_a_shard_is_about_what_was_asked_for(loose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    from dino4cells.data.packing import _rows_per_shard
    from dino4cells.data.stored import StoredImages

    stored = StoredImages.of(read_metadata(loose), None)
    size = sum(path.stat().st_size + 512 for path in Path(loose, "images").iterdir())
    assert _rows_per_shard(stored, size) == COUNT
    assert _rows_per_shard(stored, size // 4) == COUNT // 4
    assert _rows_per_shard(stored, 1) == 1
