"""Which cells train a classifier, which validate it and which test it: given files, a column, or a random part.

A file of the split is a table of its own (features; on images a CSV), or names the `ID`s of its cells in one table of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import numpy as np
import pandas as pd

from dino4cells import storage
from dino4cells.classify.cells import AnyCells, ids_of
from dino4cells.classify.given_split import parts_in
from dino4cells.classify.id_files import ID, ids_of_table, ids_of_torch_file, is_torch_file, listed_ids
from dino4cells.classify.texts import texts_of
from dino4cells.config import Config
from dino4cells.errors import ArtifactError, ConfigError, DataError

Read = Callable[[str], AnyCells]
SECTION = "classification"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Division(Generic[AnyCells]):
    """The cells of each part.

    Attributes:
        test: None where no test cells are given.
        description: how the cells were split, to be told beside every score.
        warnings: sentences for the user.
    """

    train: AnyCells
    valid: AnyCells
    test: AnyCells | None
    description: str
    warnings: tuple[str, ...]

    @property
    def parts(self) -> dict[str, AnyCells]:
        """The parts by name, in order."""
        return {"train": self.train, "valid": self.valid, **({"test": self.test} if self.test is not None else {})}


def keys_of_the_split(config: Config) -> dict[str, str]:
    """The key of `classification` that names the file of each part: `train`, `valid`, `test`.

    As in the paper's scripts: `train_cell_type` has files of its own, and so have averaged features of `train_protein`.
    """
    wanted = config.classification
    instead: dict[str, str] = {}
    if wanted.whole_images and wanted.use_pretrained_features:
        instead = {part: f"averaged_{part}_path" for part in PARTS}
    if wanted.train_cell_type:
        instead |= {"train": "cells_train_path", "valid": "cells_valid_path"}
    return {part: instead[part] if part in instead and getattr(wanted, instead[part]) else f"{part}_path" for part in PARTS}


def divide(config: Config, whole: str | None, read: Read[AnyCells]) -> Division[AnyCells]:
    """The cells of every part.

    Args:
        config: `classification` names the files.
        whole: URL of the table of all cells, or None where nobody says.
        read: reads a table.

    Raises:
        ConfigError: a file that is needed is not named.
        DataError: a file is not there, names IDs that no cell has, or leaves a part empty.
    """
    return _Divider(config, whole, read).division()


class _Divider(Generic[AnyCells]):
    def __init__(self, config: Config, whole: str | None, read: Read[AnyCells]) -> None:
        self.config = config
        self.read: Read[AnyCells] = read
        self.keys = keys_of_the_split(config)
        self.urls: dict[str, str | None] = {part: getattr(config.classification, key) for part, key in self.keys.items()}
        self._whole_url = whole
        self._whole_cells: AnyCells | None = None
        self.warnings: list[str] = []

    def division(self) -> Division[AnyCells]:
        if self.config.classification.split:
            return self._by_column(self.config.classification.split)
        if self.urls["valid"] and not self.urls["train"]:
            raise ConfigError(f"{self._place('valid')} is given without {self.keys['train']}; name the training cells too, or neither.")
        train = self._given("train") if self.urls["train"] else self._all()
        test = self._given("test") if self.urls["test"] and self._is_there("test") else None
        if self.urls["valid"]:
            valid = self._given("valid")
            description = f"given by {self.keys['train']} and {self.keys['valid']}"
        else:
            if not self.urls["train"] and test is not None:
                train = self._without(train, test)
            train, valid, description = self._held_out(train)
        for part, cells in (("train", train), ("valid", valid), ("test", test)):
            if cells is not None and not len(cells):
                raise DataError(f"{cells.source}: leaves no cell for {part}; correct {self.keys[part]} ({self.urls[part]}).")
        self._tell_shared_ids(train, valid)
        return Division(train, valid, test, description, tuple(self.warnings))

    def _by_column(self, column: str) -> Division[AnyCells]:
        """The parts that a column of the table of all cells gives; without cells that validate, some of those that train do."""
        named = next((self.keys[part] for part in PARTS if self.urls[part]), None)
        if named:
            raise ConfigError(
                f"{self.config.where(SECTION, 'split')}: the split is given by the column '{column}' and by {named}; keep one of the two."
            )
        cells = self._all()
        parts_N = parts_in(cells.frame, column, cells.source)
        train, valid, test = (cells.take(np.flatnonzero(parts_N == part)) for part in PARTS)
        if not len(train):
            raise DataError(f"{cells.source}: the column '{column}' says train of no cell; correct it, or leave split out.")
        description = f"given by the column {column}"
        if not len(valid):
            train, valid, how = self._held_out(train)
            description = f"{description}; of its training cells, {how}"
        self._tell_shared_ids(train, valid)
        return Division(train, valid, test if len(test) else None, description, tuple(self.warnings))

    def _all(self) -> AnyCells:
        if self._whole_cells is None:
            if not self._whole_url:
                needed = "--features or embedding.output_path" if self.config.classification.use_pretrained_features else "--data"
                raise ConfigError(f"{self._place('train')}: no cells are given; name them there, or all cells by {needed}.")
            self._whole_cells = self.read(self._whole_url)
        return self._whole_cells

    def _place(self, part: str) -> str:
        return self.config.where(SECTION, self.keys[part])

    def _is_there(self, part: str) -> bool:
        url = self.urls[part]
        if url and storage.exists(url):
            return True
        self.warnings.append(f"{self._place(part)}: there is no file {url}, so no cells are tested.")
        return False

    def _given(self, part: str) -> AnyCells:
        """The cells of a part, out of its own file, or of the table of all cells."""
        url = self.urls[part] or ""
        if not storage.exists(url):
            raise DataError(
                f"{self._place(part)}: there is no file {url}; make it, name a file of IDs or a table of cells, or leave the keys of "
                "the split out for a random one."
            )
        on_features = self.config.classification.use_pretrained_features
        if is_torch_file(url):
            return self._out_of_torch_file(part, url) if on_features else self._with_ids(self._only_ids(part, url), part, url)
        ids = listed_ids(url)
        if ids is None and on_features and url.lower().endswith(".csv"):
            ids = ids_of_table(url)
        return self.read(url) if ids is None else self._with_ids(ids, part, url)

    def _only_ids(self, part: str, url: str) -> list[str]:
        ids = ids_of_torch_file(url)
        if ids is None:
            raise DataError(
                f"{self._place(part)} names {url}, which lists no IDs; a classifier of images learns from a CSV or from IDs, one of "
                "features needs use_pretrained_features: true."
            )
        return ids

    def _out_of_torch_file(self, part: str, url: str) -> AnyCells:
        """Features, or IDs, which only a file that is no features is looked through for: features are large."""
        try:
            return self.read(url)
        except ArtifactError:
            ids = ids_of_torch_file(url)
            if ids is None:
                raise
        return self._with_ids(ids, part, url)

    def _with_ids(self, ids: list[str], part: str, url: str) -> AnyCells:
        """The cells of the table of all that a file names."""
        cells = self._all()
        own = ids_of(cells, f"the IDs in {self.keys[part]}")
        chosen = np.isin(own, ids)
        unknown = sorted(set(ids) - set(own))
        if not chosen.any():
            raise DataError(
                f"{url}: none of its {len(ids):,} IDs (the first: {ids[0]!r}) is in {cells.source}; give files of one data set."
            )
        if unknown:
            self.warnings.append(f"{url}: {len(unknown):,} of its {len(ids):,} IDs (the first: {unknown[0]!r}) are not in {cells.source}.")
        return cells.take(np.flatnonzero(chosen))

    def _without(self, cells: AnyCells, others: AnyCells) -> AnyCells:
        own = ids_of(cells, "the cells that are tested")
        return cells.take(np.flatnonzero(~np.isin(own, ids_of(others, "the cells that are tested"))))

    def _held_out(self, cells: AnyCells) -> tuple[AnyCells, AnyCells, str]:
        """A random part of the cells for validation, whole groups of them."""
        wanted = self.config.classification
        column = wanted.group or (ID if ID in cells.frame else None)
        if column is not None and column not in cells.frame:
            raise DataError(f"{cells.source}: there is no column '{column}', named by --group; it has: {', '.join(cells.frame.columns)}.")
        groups_N, names = pd.factorize(texts_of(cells.frame[column])) if column else (np.arange(len(cells)), np.arange(len(cells)))
        if len(names) < 2:
            raise DataError(
                f"{cells.source}: all {len(cells)} cells have one {column or 'row'}, and training and validation need two; "
                f"name another column by --group, or the cells in {self.keys['valid']}."
            )
        count = max(1, round(len(names) / wanted.folds))
        held_out = np.random.default_rng(wanted.seed).permutation(len(names))[:count]
        is_valid_N = np.isin(groups_N, held_out)
        description = f"a random 1/{wanted.folds} of the {f'values of {column}' if column else 'cells'} validates"
        return cells.take(np.flatnonzero(~is_valid_N)), cells.take(np.flatnonzero(is_valid_N)), description

    def _tell_shared_ids(self, train: AnyCells, valid: AnyCells) -> None:
        for column, plural in {ID: "IDs", **({group: f"values of {group}"} if (group := self.config.classification.group) else {})}.items():
            if column not in train.frame or column not in valid.frame:
                continue
            shared = (set(texts_of(train.frame[column])) & set(texts_of(valid.frame[column]))) - {""}
            if shared:
                self.warnings.append(
                    f"{len(shared):,} {plural} (the first: {min(shared)!r}) are in training and in validation, so that its score is too "
                    f"good; split by {column}."
                )
