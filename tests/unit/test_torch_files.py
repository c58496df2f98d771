"""Files of torch.save: what is read, what stands in for what, and that nothing in them runs."""

from __future__ import annotations

import argparse
import io
import os
import pickle
from collections import OrderedDict
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
import pytest
import torch

from dino4cells.errors import ArtifactError, CheckpointError, StorageError
from dino4cells.torch_files import CHECKPOINT, FEATURES, FileKind, Unread, read_torch_file


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


class Payload:
    """What an attacker's file would run: it makes a file whose name says so."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.trace),))


class OwnNamespace(argparse.Namespace):
    """A class of another module that looks like the allowed one."""


class StatefulPayload:
    """Runs its code when its state is set."""

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (), {"x": 1})

    def __setstate__(self, state: object) -> None:
        raise AssertionError("this must not run")


def test_settings_numbers_of_numpy_and_paths_are_read_as_plain_values(tmp_path: Path) -> None:
    """As published checkpoints have them: the scheduler's learning rate is numpy's, a cluster's output directory a path."""
    settings = argparse.Namespace(arch="vit_small", output_dir=Path("/runs/first"), shared=PureWindowsPath("C:/data"), lr=np.float32(0.5))
    groups = [{"lr": np.float64(0.1), "step": np.int64(3), "decays": np.bool_(True)}]
    read = read_torch_file(saved(tmp_path / "c.pth", {"args": settings, "optimizer": {"param_groups": groups}}), CHECKPOINT)
    group = read["optimizer"]["param_groups"][0]
    assert group == {"lr": 0.1, "step": 3, "decays": True}
    assert {type(value) for value in group.values()} == {float, int, bool}
    assert (read["args"].output_dir, read["args"].lr) == ("/runs/first", 0.5)


def test_files_of_before_numpy_2_and_of_python_2s_pickle_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"w": torch.arange(3.0), "lr": np.float64(0.25)}, path, _use_new_zipfile_serialization=False)
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray\nscalar" in old
    path.write_bytes(old)
    read = read_torch_file(str(path), CHECKPOINT)
    assert read["lr"] == 0.25
    assert read["w"].tolist() == [0.0, 1.0, 2.0]


def test_state_dictionaries_keep_their_order(tmp_path: Path) -> None:
    state = OrderedDict(b=torch.zeros(1), a=torch.ones(2))
    assert list(read_torch_file(saved(tmp_path / "s.pth", state), CHECKPOINT)) == ["b", "a"]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int64).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1, 2], dtype=">i4"),
        np.array(["nucleus", "ER"]),
        np.zeros((0, 4), np.float32),
        np.array([True, False]),
    ],
)
def test_arrays_in_features_are_rebuilt_as_they_were(tmp_path: Path, array: np.ndarray) -> None:
    read = read_torch_file(saved(tmp_path / "f.pth", [array]), FEATURES)[0]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


def test_an_array_of_objects_becomes_the_list_of_them(tmp_path: Path) -> None:
    assert read_torch_file(saved(tmp_path / "f.pth", [np.array(["a", None, 3], dtype=object)]), FEATURES) == [["a", None, 3]]


def test_a_table_of_pandas_is_left_unread_whatever_its_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "ID": ["a", "b"],
            "count": pd.array([1, None], dtype="Int64"),
            "kind": pd.Categorical(["x", "y"]),
            "day": pd.to_datetime(["2020-01-01", "2020-01-02"]),
            "text": pd.array(["q", None], dtype="string"),
        },
        index=pd.Index([5, 7], name="row"),
    )
    read = read_torch_file(saved(tmp_path / "f.pth", [torch.ones(2, 3), ["a", "b"], frame]), FEATURES)
    assert read[1] == ["a", "b"]
    assert isinstance(read[2], Unread)


@pytest.mark.parametrize("kind", [CHECKPOINT, FEATURES])
@pytest.mark.parametrize("place", ["alone", "inside", "as settings", "in a table"])
def test_code_in_a_file_does_not_run(tmp_path: Path, kind: FileKind, place: str) -> None:
    payload = Payload(tmp_path / "it-ran")
    content = {
        "alone": payload,
        "inside": {"teacher": {"w": torch.zeros(1)}, "extra": [payload]},
        "as settings": {"teacher": {}, "args": argparse.Namespace(lr=payload)},
        "in a table": [torch.zeros(1, 1), pd.DataFrame({"x": pd.Series([payload], dtype=object)})],
    }[place]
    with pytest.raises(kind.error, match=r"f\.pth: holds more than tensors and settings \([\w.]+\)"):
        read_torch_file(saved(tmp_path / "f.pth", content), kind)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_plain_pickle_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "evil.pth"
    if zipped:
        torch.save(Payload(tmp_path / "it-ran"), path)
    else:
        path.write_bytes(pickle.dumps(Payload(tmp_path / "it-ran"), protocol=2))
    with pytest.raises(CheckpointError):
        read_torch_file(str(path), CHECKPOINT)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "extra",
    [OwnNamespace(lr=1), StatefulPayload(), Path("x"), np.zeros(2), np.dtype("f8"), pd.DataFrame({"x": [1]}), argparse.ArgumentParser],
)
def test_a_checkpoint_with_anything_else_is_refused(tmp_path: Path, extra: object) -> None:
    with pytest.raises(CheckpointError, match=r"c\.pth: holds more than tensors and settings \([\w.]+\)"):
        read_torch_file(saved(tmp_path / "c.pth", {"teacher": {}, "extra": extra}), CHECKPOINT)


def test_bytes_that_call_themselves_an_array_of_objects_are_refused(tmp_path: Path) -> None:
    """numpy's own reader can be made to take such bytes for addresses."""
    buffer = io.BytesIO()
    torch.save([np.zeros(1, np.int64)], buffer, _use_new_zipfile_serialization=False)
    assert b"i8" in buffer.getvalue()
    (tmp_path / "f.pth").write_bytes(buffer.getvalue().replace(b"i8", b"O8"))
    with pytest.raises(ArtifactError, match=r"f\.pth: holds more than tensors and settings \(numpy.dtype"):
        read_torch_file(str(tmp_path / "f.pth"), FEATURES)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(4096)}, path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pth: the checkpoint is damaged or incomplete"):
        read_torch_file(str(path), CHECKPOINT)


def test_a_file_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.pth"):
        read_torch_file(str(tmp_path / "none.pth"), CHECKPOINT)


def test_the_list_of_allowed_names_is_as_before_afterwards(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_torch_file(saved(tmp_path / "c.pth", {"args": argparse.Namespace(lr=1)}), CHECKPOINT)
    assert set(torch.serialization.get_safe_globals()) == before
