"""Features as one AnnData file (`.h5ad`): `X` the numbers, `obs` the metadata, `uns["dino4cells"]` the card.

scanpy reads it, and what scanpy writes of it is read here again: with rows or features left out and columns of `obs` added. Nothing in a
file is run, and none is followed to another one.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError

from dino4cells.artifacts import LocalCopies
from dino4cells.features import table as tables
from dino4cells.features.card import FeaturesCard
from dino4cells.features.table import Table, feature_names, not_features, readable, table_of_file
from dino4cells.manifest import hash_of

CARD_KEY: Final = "dino4cells"
"""Where `uns` holds the card."""
CARD_TEXT: Final = "features.json"
"""Where it holds it as one text, from which it is read again."""
LARGEST_EXPANSION: Final = 1000
"""By how much what the numbers take in memory may exceed what they take in the file; numbers of a network can hardly be compressed."""
SMALL: Final = 2**24
HEAP: Final = b"GCOL"
"""With which a global heap of HDF5 begins, that holds texts."""
PARTS: Final = ("obs", "var", "X", "uns")
"""What of a file is read; its uns may be missing."""


def write_h5ad(path: Path, table: Table) -> None:
    """Write the rows of all parts; those without features are NaN, and `obs.dino_error` says why."""
    import anndata
    import h5py

    obs, card = _observations(table.metadata), table.card
    said = {**_plain(card.model_dump(mode="json")), CARD_TEXT: card.model_dump_json()}
    anndata.AnnData(obs=obs, var=pd.DataFrame(index=card.feature_names), uns={CARD_KEY: said}).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        if "X" in file:
            del file["X"]
        rows = max(1, min(len(obs), tables.ROWS_PER_GROUP))
        shape = (len(obs), card.embedding_dim)
        numbers = file.create_dataset("X", shape, np.float32, chunks=(rows, shape[1]) if len(obs) else None)
        numbers.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        first = 0
        for piece in table.pieces():
            numbers[first : first + len(piece)] = piece
            first += len(piece)


def open_h5ad(url: str) -> Table:
    """The features in a file whose numbers are not read yet.

    Raises:
        ArtifactError: no AnnData file, or none of features.
        ModuleNotFoundError: anndata is not installed.
        StorageError: not there, or not readable.
    """
    import anndata.io
    import h5py

    copies = LocalCopies()
    path = copies.of(url)
    with readable(url):
        _check_heaps(path)  # before anything of them is read
    with readable(url), h5py.File(path) as file:
        announced = sum(_checked(file, part, url) for part in PARTS if part != "uns" or part in file)
        if announced > max(SMALL, LARGEST_EXPANSION * path.stat().st_size):
            raise not_features(url, f"it announces {announced:,} bytes of numbers and has {path.stat().st_size:,} bytes")
        obs, var = (anndata.io.read_elem(file[part]) for part in ("obs", "var"))
        if not isinstance(obs, pd.DataFrame) or not isinstance(var, pd.DataFrame):
            raise not_features(url, "its obs and var are no tables; read it by anndata and write it again")
        kept, numbers = [str(name) for name in var.index], file["X"]
        names = feature_names(kept, url)
        if not isinstance(numbers, h5py.Dataset):
            raise not_features(url, "its X is sparse; make it dense by cells.X = cells.X.toarray()")
        if numbers.shape != (len(obs), len(kept)) or numbers.dtype.kind not in "fiu":
            raise not_features(url, f"its X is {numbers.dtype} of shape {numbers.shape} beside {len(obs)} rows and {len(kept)} columns")
        said, metadata = _card(file), _plain_columns(obs)
    places = [kept.index(name) for name in names]
    is_as_it_is = places == list(range(len(kept)))

    def pieces() -> Iterator[NDArray[np.float32]]:
        with readable(url), h5py.File(copies.of(url)) as again:
            for start in range(0, len(obs), tables.ROWS_PER_GROUP):
                rows = again["X"][start : start + tables.ROWS_PER_GROUP]
                with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, which is none
                    yield (rows if is_as_it_is else rows[:, places]).astype(np.float32, copy=False)

    return table_of_file(url, hash_of(path), names, metadata, pieces, said)


def _check_heaps(path: Path) -> None:
    """Refuse a file whose texts HDF5 would look for without end.

    It walks from object to object of a heap (HDF5 file format, III.E, global heap) by their sizes, and does not move on from an unused one
    whose size is damaged to nothing.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(HEAP)
        while start >= 0:
            version, size = content[start + 4], int.from_bytes(content[start + 8 : start + 16], "little")
            place, end = start + 16, min(start + size, len(content))
            while version == 1 and place + 16 <= end:
                number, length = (int.from_bytes(content[place + first : place + last], "little") for first, last in ((0, 2), (8, 16)))
                step = 16 + -(-length // 8) * 8 if number else length
                if step < 16:
                    raise ValueError("a heap of its texts is damaged")
                place += step
            start = content.find(HEAP, start + 4)


def _checked(file: Any, part: str, url: str) -> int:
    """How many bytes the arrays of a part of a file announce; refuses one that is not there, or leads to another file."""
    import h5py

    announced, pending, seen = 0, [(file, part)], set()
    while pending:
        group, name = pending.pop()
        link = group.get(name, getlink=True)
        if link is None:
            raise not_features(url, f"it has no {part}")
        if not isinstance(link, h5py.HardLink):
            raise not_features(url, f"'{name}' in its {part} is a link to something else")
        found = group[name]
        if isinstance(found, h5py.Dataset):
            if found.external or found.is_virtual:
                raise not_features(url, f"the numbers of '{name}' in its {part} are in another file")
            announced += found.nbytes + _text_bytes(found)
        address = h5py.h5o.get_info(found.id).addr
        if isinstance(found, h5py.Group) and address not in seen:
            seen.add(address)
            pending += [(found, below) for below in found]
    return announced


def _text_bytes(found: Any) -> int:
    """How long the texts of an array say that they are, for which HDF5 makes room before it looks; 0 where that is not seen at once."""
    import h5py

    text, offset = h5py.check_string_dtype(found.dtype), found.id.get_offset()
    if text is None or text.length is not None or offset is None:
        return 0
    path, reference = Path(found.file.filename), np.dtype([("length", "<u4"), ("place", "V12")])
    with path.open("rb") as file:
        file.seek(offset)
        references = np.frombuffer(file.read(min(found.size * reference.itemsize, path.stat().st_size)), reference)
    return int(references["length"].sum(dtype=np.int64))


def _card(file: Any) -> FeaturesCard | None:
    place = f"uns/{CARD_KEY}/{CARD_TEXT}"
    try:
        return FeaturesCard.model_validate_json(file[place][()]) if place in file else None
    except (ValidationError, TypeError):
        return None


def _plain_columns(obs: pd.DataFrame) -> pd.DataFrame:
    """The columns of `obs`, categories as the values that they are."""
    categories = [name for name in obs if isinstance(obs[name].dtype, pd.CategoricalDtype)]
    plain: pd.DataFrame = obs.astype(dict.fromkeys(categories, object)).rename(columns=str)
    return plain


def _observations(metadata: pd.DataFrame) -> pd.DataFrame:
    """The columns as HDF5 can hold them: text as categories where it repeats or is missing, whatever is neither text nor number as text.

    A `/` in a column's name would be a path there, and `_index` the index; both are changed to a name that can be held.
    """
    columns: dict[str, Any] = {}
    for name, column in metadata.items():
        held = str(name).replace("/", "_")
        held = "index" if held == "_index" else held
        while held in columns:
            held += "_"
        columns[held] = _observed(column)
    observed: pd.DataFrame = pd.DataFrame(columns, index=pd.Index([str(row) for row in range(len(metadata))], dtype=object))
    return observed


def _observed(column: pd.Series[Any]) -> Any:
    """The values of a column of `obs`."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        return column.to_numpy()
    known = column.notna()
    text = column.astype(object).map(str)
    if bool(known.all()) and text.nunique() == len(text):
        return text.to_numpy(object)
    categories = pd.Index(sorted(text[known].unique()), dtype=object)
    return pd.Categorical(text.where(known, None), categories=categories)


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    """What a card says as AnnData can hold it: text, numbers, lists of text; other lists as JSON; what is empty left out."""
    plain: dict[str, Any] = {}
    for name, value in said.items():
        if isinstance(value, dict) and value:
            plain[name.replace("/", "_")] = _plain(value)
        elif isinstance(value, list) and value:
            texts = all(isinstance(item, str) for item in value)
            plain[name.replace("/", "_")] = np.array(value, dtype=object) if texts else json.dumps(value)
        elif isinstance(value, (str, int, float)):
            plain[name.replace("/", "_")] = value
    return plain
