"""The readers that `fuzz.py` tries, each with the inputs that are made for it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np
import torch

from dino4cells.artifacts import ArtifactWriter, open_artifact
from dino4cells.classify.saved import pipeline_of
from dino4cells.config import parse_config
from dino4cells.data.images import MAX_CHANNELS, decode_picture
from dino4cells.data.images import Picture as DecodedPicture
from dino4cells.data.metadata import METADATA_FILE, read_metadata
from dino4cells.data.packing import pack
from dino4cells.data.shards import KIND as SHARDS
from dino4cells.data.shards import Shards
from dino4cells.errors import DataError, Dino4CellsError
from dino4cells.features.published import read_features_file
from dino4cells.features.store import read_features
from dino4cells.models.weights import read_weights
from dino4cells.printable import UNSEEN
from tests.faults import hostile_files, hostile_images
from tests.faults.damage import damaged, with_right_checksums
from tests.faults.hostile_images import Picture
from tests.faults.oracles import agrees

LARGE = 2**20
"""Values of an image that another program does not read once more here."""
NAME = "s3://plates/cell"


Maker = Callable[[Random], tuple[bytes, object]]


class Outcome(str, Enum):
    """What becomes of an input that is not lost."""

    READ = "read"
    REFUSED = "refused"


@dataclass(frozen=True)
class Subject:
    """A reader and a kind of input.

    Attributes:
        name: of both.
        weight: how often it is drawn, beside the others.
        make: the bytes of a file, and what is needed to judge what is read of them.
        read: what the reader answers, or its error where that is one of ours; whatever else it raises is a loss.
        judge: what became of the input; AssertionError where the answer is wrong.
    """

    name: str
    weight: float
    make: Maker
    read: Callable[[bytes, object], object]
    judge: Callable[[object, bytes, object], Outcome]


def is_named(error: Exception, name: str) -> None:
    """An error of ours is a sentence that begins with the file's name, on one line, without a character that a terminal obeys."""
    message = str(error)
    assert message.startswith(f"{name}: ") or message.startswith(f"{name}, line"), f"does not name the file: {message}"
    assert UNSEEN.search(message) is None, f"is not printable: {message!r}"
    assert len(message) < 2000, f"is {len(message)} characters long"


# Images


def whole_picture(kind: str, random: Random) -> tuple[bytes, object]:
    picture: Picture = random.choice(hostile_images.MAKERS[kind])(random)
    return picture.content, (kind, picture)


def damaged_picture(kind: str, random: Random) -> tuple[bytes, object]:
    picture = random.choice(hostile_images.MAKERS[kind])(random)
    content, _ = damaged(picture.content, random)
    if kind == "PNG" and random.random() < 0.5:
        content = with_right_checksums(content)
    return content, (kind, None)


def no_picture(random: Random) -> tuple[bytes, object]:
    return hostile_images.of_no_kind(random), (None, None)


def read_picture(content: bytes, check: object) -> object:
    try:
        return decode_picture(content, NAME)
    except DataError as error:
        return error


def judge_picture(answer: object, content: bytes, check: object) -> Outcome:
    kind, truth = check  # type: ignore[misc]
    known = truth is not None and truth.array_CHW is not None and truth.exact
    if isinstance(answer, DataError):
        is_named(answer, NAME)
        assert not known, f"a whole file is refused: {answer}"
        return Outcome.REFUSED
    assert isinstance(answer, DecodedPicture)
    pixels = answer.pixels
    is_image = pixels.ndim == 3 and 0 not in pixels.shape and pixels.shape[0] <= MAX_CHANNELS
    assert is_image, f"has the shape {tuple(pixels.shape)}"
    if pixels.is_floating_point():
        assert bool(((pixels >= 0) & (pixels <= 1)).all()), "is not in [0, 1]"
    if known:
        assert np.array_equal(pixels.numpy(), truth.array_CHW), "is not the image that was saved"
    elif kind is not None and pixels.numel() < LARGE:
        assert agrees(pixels, content, kind) is not False, "is not what another program reads"
        again = decode_picture(content, NAME).pixels
        assert torch.equal(pixels, again), "is another image each time, of what happened to be in memory"
    return Outcome.READ


def _images() -> list[Subject]:
    subjects = []
    for kind, weight in (("PNG", 3), ("JPEG", 2), ("TIFF", 5), ("NPY", 1)):
        subjects.append(Subject(f"{kind}, whole or lying", weight, partial(whole_picture, kind), read_picture, judge_picture))
        subjects.append(Subject(f"{kind}, damaged", 2 * weight, partial(damaged_picture, kind), read_picture, judge_picture))
    subjects.append(Subject("image of no kind", 1, no_picture, read_picture, judge_picture))
    return subjects


# Other files


@dataclass
class Workplace:
    """Where files are put that must be files."""

    place: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))


WORK = Workplace()


def file_of(name: str, content: bytes) -> str:
    path = WORK.place / f"{os.getpid()}-{name}"
    path.write_bytes(content)
    return str(path)


def choice_of(makers: Sequence[Callable[[Random], bytes]], random: Random, damage: float = 0.6) -> tuple[bytes, object]:
    """One of these, damaged now and then."""
    maker = random.choice(makers)
    content = maker(random)
    return (damaged(content, random)[0], None) if content and random.random() < damage else (content, None)


def read_file(reader: Callable[[str], object], name: str, content: bytes, check: object) -> object:
    url = file_of(name, content)
    try:
        return reader(url), url
    except Dino4CellsError as error:
        return error, url


def judge_file(answer: object, content: bytes, check: object) -> Outcome:
    """A whole file is read; what is refused is refused by name."""
    result, url = answer  # type: ignore[misc]
    if isinstance(result, Dino4CellsError):
        is_named(result, url)
        assert check is not True, f"a whole file is refused: {result}"
        return Outcome.REFUSED
    return Outcome.READ


def read_part(kind: str, name: str, files: dict[str, bytes], reader: Callable[[str], object], content: bytes, check: object) -> object:
    """An artifact of which one file is replaced, with a manifest that is right."""
    url = str(WORK.place / f"{os.getpid()}-{kind}")
    with ArtifactWriter(url, kind) as writer:
        for part, whole in {**files, name: content}.items():
            writer.write_bytes(part, whole)
    try:
        return reader(url), url
    except Dino4CellsError as error:
        return error, url


def judge_part(answer: object, content: bytes, check: object) -> Outcome:
    result, url = answer  # type: ignore[misc]
    if isinstance(result, Dino4CellsError):
        assert str(result).startswith(url), f"does not name the artifact: {result}"
        assert UNSEEN.search(str(result)) is None, f"is not printable: {result!r}"
        return Outcome.REFUSED
    return Outcome.READ


def read_members(url: str) -> object:
    shards = Shards.read_index(url)
    return shards.read(range(min(50, len(shards.shard_M))))


def read_configuration(content: bytes, check: object) -> object:
    try:
        return parse_config(content.decode("utf-8", "replace"), NAME), NAME
    except Dino4CellsError as error:
        return error, NAME


def judge_configuration(answer: object, content: bytes, check: object) -> Outcome:
    result, _ = answer  # type: ignore[misc]
    if isinstance(result, Dino4CellsError):
        assert str(result).startswith(NAME), f"does not name the file: {str(result)[:200]}"
        assert UNSEEN.search(str(result).replace("\n", "")) is None, f"is not printable: {str(result)[:300]!r}"
        assert len(str(result)) < 5000, f"is {len(str(result))} characters long"
        return Outcome.REFUSED
    for warning in result.warnings:
        is_inert = UNSEEN.search(warning) is None and len(warning) < 5000
        assert is_inert, f"warns so: {warning[:300]!r}"
    return Outcome.READ


@cache
def packed() -> dict[str, bytes]:
    """The files of a packed directory of three images."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "data")
        (data / "images").mkdir(parents=True)
        for row in range(3):
            (data / "images" / f"{row}.png").write_bytes(hostile_images.png(hostile_images.drawn(Random(row), 3, height=9, width=9)))
        (data / METADATA_FILE).write_text("file,ID\n" + "".join(f"images/{row}.png,a\n" for row in range(3)))
        pack(read_metadata(str(data)), None, f"{place}/packed", processes=1)
        return {name: Path(place, "packed", name).read_bytes() for name in open_artifact(f"{place}/packed", SHARDS).names}


def features_card() -> bytes:
    card = {
        **dict.fromkeys(("data", "data_fingerprint", "model", "model_fingerprint"), ""),
        **{"rows": 8, "failed_rows": 0, "embedding_dim": 4, "channels": [], "transforms": [], "baselines": False},
        **{"images_per_second": 1.0, "versions": {}},
    }
    return json.dumps(card).encode()


def _others() -> list[Subject]:
    def of(*makers: Callable[[Random], bytes], damage: float = 0.6) -> Maker:
        return partial(choice_of, makers, damage=damage)

    def always(maker: Callable[[], bytes]) -> Callable[[Random], bytes]:
        return lambda random: maker()

    table = {"features.json": features_card(), "part-00000.parquet": hostile_files.features_table()}
    old = partial(hostile_files.checkpoint, legacy=True)
    checkpoints = of(always(hostile_files.checkpoint), always(old), hostile_files.hostile_pickle, hostile_files.hostile_pickle)
    features = of(always(hostile_files.features_file), always(hostile_files.features_file), hostile_files.hostile_pickle)
    tensors = of(always(hostile_files.safetensors_file), hostile_files.lying_safetensors)

    def whole_table(random: Random) -> tuple[bytes, object]:
        return hostile_files.table(random)

    def damaged_table(random: Random) -> tuple[bytes, object]:
        return damaged(hostile_files.table(random)[0], random)[0], None

    def configurations(random: Random) -> tuple[bytes, object]:
        return choice_of([lambda random: hostile_files.configuration(random).encode()], random, 0.3)

    def file(name: str, weight: float, make: Maker, reader: Callable[[str], object], url: str) -> Subject:
        return Subject(name, weight, make, partial(read_file, reader, url), judge_file)

    def part_of(name: str, weight: float, part: str) -> Subject:
        make = of(lambda random: table[part], damage=1)
        return Subject(name, weight, make, partial(read_part, "features", part, table, read_features), judge_part)

    classifier = of(always(hostile_files.classifier_file), damage=1)
    subjects = [
        file("checkpoint", 2, checkpoints, read_weights, "c.pth"),
        file("checkpoint, zip bomb", 0.01, of(always(hostile_files.zip_bomb), damage=0), read_weights, "c.pth"),
        file("features as .pth", 2, features, read_features_file, "f.pth"),
        file("features as .parquet, damaged", 0.5, of(always(hostile_files.features_table), damage=1), read_features, "f.parquet"),
        file("features as .h5ad, damaged", 0.5, of(always(hostile_files.features_h5ad), damage=1), read_features, "f.h5ad"),
        file("safetensors", 1, tensors, read_weights, "w.safetensors"),
        file("classifier (skops)", 0.5, classifier, read_classifier, "l.skops"),
        file("table, whole or lying", 1, whole_table, read_metadata, "metadata.csv"),
        file("table, damaged", 1, damaged_table, read_metadata, "metadata.csv"),
        Subject("configuration", 0.4, configurations, read_configuration, judge_configuration),
        part_of("features, damaged part", 0.7, "part-00000.parquet"),
        part_of("features, damaged card", 0.3, "features.json"),
    ]
    files = packed()
    for name in sorted(files):
        if name not in (METADATA_FILE, "channels.txt"):
            make = of(lambda random, name=name: files[name], damage=1)  # type: ignore[misc]
            subjects.append(
                Subject(f"packed, damaged {name}", 0.3, make, partial(read_part, SHARDS, name, files, read_members), judge_part)
            )
    return subjects


def read_classifier(url: str) -> object:
    return pipeline_of(Path(url).read_bytes(), url)


SUBJECTS: tuple[Subject, ...] = (*_images(), *_others())


def warm() -> None:
    """Make what is large once, before processes fork."""
    hostile_images.zeros(12000 * 12001)
    hostile_images.many_pages(20000)
    hostile_images.many_pages(200000)
    hostile_files.zip_bomb()
    hostile_files.features_h5ad()
