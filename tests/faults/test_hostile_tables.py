"""Tables of cells and configurations that others wrote: read as they are, or refused with a sentence that says where, in bounded time."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dino4cells.config import ModelConfig, load_config, parse_config
from dino4cells.data.containment import first_outside
from dino4cells.data.layout import Layout
from dino4cells.data.metadata import read_metadata, read_table
from dino4cells.data.source import image_source
from dino4cells.data.stored import StoredImages, whole
from dino4cells.errors import ConfigError, DataError
from dino4cells.printable import UNSEEN
from tests.tally import Tally

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=30)
SAFE_NAME = st.text(st.characters(codec="utf-8", categories=("L", "N"), include_characters=" -_.[]{}()'+,;=@&%$"), min_size=1, max_size=20)


def table(directory: Path, content: bytes) -> str:
    path = directory / "metadata.csv"
    path.write_bytes(content)
    return str(path)


def reason(directory: Path, content: bytes, **options: object) -> str:
    url = table(directory, content)
    with pytest.raises(DataError) as caught:
        read_metadata(url, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.startswith(url)
    assert UNSEEN.search(message) is None
    return message.removeprefix(url)


# What is in the cells


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(ANY_TEXT.filter(lambda text: text.strip() == text), min_size=1, max_size=6), quoting=st.sampled_from([0, 1]))
@example(labels=["=1+1", "+A1", "-2", "@SUM(A1)"], quoting=0)
@example(labels=["\u202eturned", "\x1b[31mred", "a\nb", 'say "x"', "<b>"], quoting=1)
def test_labels_are_read_as_they_are_written(tmp_path: Path, labels: list[str], quoting: int) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL)
    writer.writerows([["file", "ID", "label"], *([f"{row}.png", label, label] for row, label in enumerate(labels))])
    frame = read_metadata(table(tmp_path, buffer.getvalue().encode())).frame
    assert frame["ID"].fillna("").tolist() == labels


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_a_table_that_excel_wrote_as_utf_8_is_read(tmp_path: Path, mark: bytes, end: bytes) -> None:
    frame = read_metadata(table(tmp_path, mark + b"file,ID" + end + b'"z\xc3\xbcrich, 1.png",a' + end)).frame
    assert frame["file"].tolist() == ["zürich, 1.png"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "shift_jis"])
def test_a_table_in_another_encoding_is_refused_and_not_misread(tmp_path: Path, encoding: str) -> None:
    text = "file,ID\nセル.png,a\n" if encoding == "shift_jis" else "file,ID\nzürich.png,a\n"
    message = reason(tmp_path, text.encode(encoding))
    assert "save it as comma-separated UTF-8 text" in message or "there is no column 'file'" in message


@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\x7f", "\n"])
def test_a_control_character_in_the_name_of_a_file_is_refused_with_its_line(tmp_path: Path, character: str) -> None:
    message = reason(tmp_path, f'file,ID\na.png,1\n"b{character}.png",2\n'.encode())
    line = "line 4" if character == "\n" else "line 3"  # the last of a row that has two
    assert (f"a NUL byte in {line}" if character == "\0" else f", {line}: the file 'b") in message


def test_repeated_ids_are_the_cells_of_one_image_and_read(tmp_path: Path) -> None:
    assert read_metadata(table(tmp_path, b"file,ID\na.png,x\nb.png,x\n")).frame["ID"].tolist() == ["x", "x"]


def test_a_line_without_end_or_with_too_many_columns_is_refused(tmp_path: Path) -> None:
    assert "10,001 columns, and at most 10,000 are read" in reason(tmp_path, b"file" + b",c" * 10_000 + b"\nx.png\n")
    assert "not a CSV that can be read" in reason(tmp_path, b'file,ID\n"' + b"a" * 200_000)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.text(st.characters(codec="utf-8"), max_size=200).map(lambda text: f"file,ID\n{text}".encode()))
def test_whatever_bytes_a_table_is_made_of_it_is_read_or_refused_by_name(tmp_path: Path, content: bytes) -> None:
    url = table(tmp_path, content)
    metadata = None
    try:
        metadata = read_metadata(url)
    except DataError as refused:
        message = str(refused)
    if metadata is None:
        assert message.startswith(url)
        assert UNSEEN.search(message) is None
        return
    assert len(metadata) > 0
    for place in range(len(metadata)):
        assert Path(metadata.urls[place]).resolve().is_relative_to(tmp_path.resolve())


# Where files may be

OUTSIDE = [
    "/etc/passwd", "../secret.png", "images/../../secret.png", "images/..", "..", "//etc/passwd", "/data/cells-of-others/1.png",
    "/data/cells/../secret.png", "http://127.0.0.1:1/x.png", "s3://other/x.png", "file:///etc/passwd", "local:///etc/passwd",
    "zip://a.png::/etc/passwd", "simplecache::http://127.0.0.1:1/x.png", "memory://x/y.png",
]  # fmt: skip


@pytest.mark.parametrize("root", ["/data/cells", "memory://cells"])
def test_no_file_outside_of_the_root_is_read_unless_it_is_allowed(tmp_path: Path, root: str, tally: Tally) -> None:
    tally.what = f"a file outside of {root}, named by a table"
    for name in OUTSIDE:
        content = f"file,ID\nimages/1.png,a\n{name},b\n".encode()
        message = reason(tmp_path, content, root=root)
        tally.count(message.startswith(f", line 3: the file '{name}' is not below {root}") and "model.files_outside_root" in message)
        allowed = read_metadata(table(tmp_path, content), root, Layout(files_outside_root=True))
        assert allowed.frame["file"][1] == name


def test_the_configuration_allows_files_outside_of_the_root(tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(tmp_path / "cell.png")
    (tmp_path / "tables").mkdir()
    url = table(tmp_path / "tables", b"file,ID\n../cell.png,a\n")
    with pytest.raises(DataError, match=r"metadata\.csv, line 2: the file '\.\./cell\.png' is not below .*/tables, where the images are"):
        read_table(load_config(overrides={"model.data_path": url}))
    metadata = read_table(load_config(overrides={"model.data_path": url, "model.files_outside_root": True}))
    assert image_source(metadata, ModelConfig()).image(0, whole(StoredImages.of(metadata, None).contents([0])[0])).shape == (1, 9, 9)


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/data/cells", "/data/cells/images/1.png"),
        ("/data/cells/", "/data/cells/1.png"),
        ("/", "/anywhere/1.png"),
        ("/data/cells", "images/../1.png"),
        ("/data/cells", "..images/a..b.png"),
        ("/data/cells", "~user/1.png"),
    ],
)
def test_absolute_names_below_the_root_are_read(tmp_path: Path, root: str, name: str) -> None:
    assert read_metadata(table(tmp_path, f"file,ID\n{name},a\n".encode()), root).frame["file"].tolist() == [name]


def test_names_are_compared_by_store_and_bucket_too() -> None:
    for root in ("s3://bucket/cells", "minio://bucket/cells", "s3a://bucket/cells"):
        for name in OUTSIDE:
            assert first_outside(root, pa.array(["images/1.png", name], pa.large_string())) == 1, name
        for name in ("s3://bucket/cells/1.png", "minio://bucket/cells/a/1.png", "a/../1.png"):
            assert first_outside(root, pa.array([name], pa.large_string())) is None, name


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(SAFE_NAME | st.sampled_from(["..", ".", "", "~", "C:", "\\", "..\\.."]), min_size=1, max_size=6))
def test_what_is_read_is_below_the_root_however_the_name_is_made(tmp_path: Path, parts: list[str]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["file", "ID"], ["/".join(parts) or "x", "a"]])
    url = table(tmp_path, buffer.getvalue().encode())
    try:
        metadata = read_metadata(url)
    except DataError:
        return
    assert Path(metadata.urls[0]).resolve().is_relative_to(tmp_path.resolve())


def test_file_patterns_and_names_of_channels_lead_nowhere_else(tmp_path: Path) -> None:
    layout = Layout(file_pattern="{plate}/{well}_{channel}.tif")
    content = b"plate,well\n..,../x\n"
    assert "the file '../../x_{channel}.tif' is not below" in reason(tmp_path, content, layout=layout)
    metadata = read_metadata(table(tmp_path, b"plate,well\np1,a1\n"), layout=layout)
    for names in (["DNA", "../../../etc"], ["x/../../..", "y"], ["http://a", "y"]):
        with pytest.raises(DataError, match=r"the channel '.*' is part of the images' names and leads out of their directory; rename it"):
            StoredImages.of(metadata, names)


def test_links_in_the_directory_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "elsewhere" / "cell.png")
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "images").symlink_to(tmp_path / "elsewhere")
    metadata = read_metadata(table(tmp_path / "cells", b"file,ID\nimages/cell.png,a\n"))
    assert len(whole(StoredImages.of(metadata, None).contents([0])[0])[0]) > 0


# Configurations


def laughs(levels: int) -> str:
    return "\n".join([f"a0: &a0 [{', '.join('x' * 9)}]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)])


def merges(levels: int) -> str:
    return "b0: &b0 {k0: 1}\n" + "".join(f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}\n" for n in range(1, levels))


BOMBS = {
    "aliases": f"{laughs(12)}\nmodel: {{channels: *a11}}\n",
    "aliases of a section": f"{laughs(12)}\nmodel: *a11\n",
    "merges": merges(12) + "model: *b11\n",
    "depth": "model: " + "[" * 100_000,
    "depth of keys": "model: " + "{a: " * 5_000,
    "length": f"model: {{root: '{'a' * 2**20}'}}\n",
    "itself": "model: &m {channels: [*m]}\n",
    "a huge integer": f"model: {{epochs: {'9' * 100_000}}}\n",
    "a huge hexadecimal": f"model: {{epochs: 0x{'f' * 100_000}}}\n",
    "a float beyond all": "model: {lr: 1e999}\n",
    "python": "model: !!python/object/apply:os.mkdir [trace]\n",
    "python in a value": "model: {epochs: !!python/object/new:os.mkdir [trace]}\n",
    "a module": "model: {epochs: !!python/module:antigravity ''}\n",
    "a name": "model: {epochs: !!python/name:os.mkdir ''}\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_configuration_that_is_a_bomb_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: str) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    with pytest.raises(ConfigError) as caught:
        parse_config(BOMBS[bomb], "config.yaml")
    assert time.process_time() - began < 5  # seconds of the processor; the slowest takes a fifth of one
    assert str(caught.value).startswith("config.yaml")
    assert len(str(caught.value)) < 1000
    assert not list(tmp_path.iterdir())


@settings(max_examples=100)
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("{}[]&*!<>:-?|,'\"#%@ \n\tab1", max_size=60))
def test_whatever_text_a_configuration_is_it_is_read_or_refused_by_name(text: str) -> None:
    config = None
    try:
        config = parse_config(f"model:\n  epochs: 3\n{text}", "config.yaml")
    except ConfigError as refused:
        message = str(refused)
    if config is None:
        assert message.startswith("config.yaml")
        assert UNSEEN.search(message.replace("\n", "")) is None
        return
    assert isinstance(config.model.epochs, int)
