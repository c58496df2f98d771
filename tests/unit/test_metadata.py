"""The table of cells: what a user's CSV may look like, and what its mistakes are answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from dino4cells import storage
from dino4cells.data.metadata import read_metadata
from dino4cells.errors import DataError

CSV = "file,ID,cell_type,Mitochondria\nimages/a.png,007,U2OS,1\nimages/b.png,1e5,NA,0\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "metadata.csv").write_text(CSV)
    return tmp_path


def refusal(directory: Path, content: str | bytes) -> str:
    (directory / "metadata.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_metadata(str(directory))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_row_is_a_cell_in_the_order_of_the_file(table: Path) -> None:
    metadata = read_metadata(str(table))

    assert len(metadata) == 2
    assert metadata.frame["Mitochondria"].tolist() == [1, 0]
    assert list(metadata.urls) == [f"{table}/images/a.png", f"{table}/images/b.png"]


def test_an_id_that_looks_like_a_number_stays_text(table: Path) -> None:
    assert read_metadata(str(table)).frame["ID"].tolist() == ["007", "1e5"]


@pytest.mark.parametrize("name", ["NA", "None", "nan", "null", "N/A"])
def test_a_class_called_na_is_a_class(tmp_path: Path, name: str) -> None:
    (tmp_path / "metadata.csv").write_text(f"file,cell_type\na.png,{name}\nb.png,\n")

    column = read_metadata(str(tmp_path)).frame["cell_type"]

    assert column[0] == name
    assert column.isna().tolist() == [False, True]


@pytest.mark.parametrize("name", ["cells.csv", "CELLS.CSV"])
def test_a_csv_of_another_name_is_given_by_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CSV)

    metadata = read_metadata(str(tmp_path / name), root="memory://bucket/plates")

    assert metadata.source == str(tmp_path / name)
    assert metadata.urls[0] == "memory://bucket/plates/images/a.png"


def test_a_table_is_read_from_an_object_store() -> None:
    storage.write_text("memory://test-metadata/metadata.csv", CSV)
    storage.write_text("memory://test-metadata/channels.txt", "DNA\nRNA\n")

    metadata = read_metadata("memory://test-metadata")

    assert metadata.urls[1] == "memory://test-metadata/images/b.png"
    assert metadata.channels == ("DNA", "RNA")


@pytest.mark.parametrize("start", ["\ufeff", ""])
@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path, start: str, line_break: str) -> None:
    (tmp_path / "metadata.csv").write_bytes((start + CSV).replace("\n", line_break).encode())

    assert read_metadata(str(tmp_path)).frame["ID"].tolist() == ["007", "1e5"]


def test_a_comma_at_the_end_of_every_row_does_not_shift_the_columns(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file,ID\na.png,1,\nb.png,2,\n")

    assert read_metadata(str(tmp_path)).frame.to_dict("list") == {"file": ["a.png", "b.png"], "ID": ["1", "2"]}


# Fingerprint and channels


def test_the_fingerprint_changes_with_the_cells_their_labels_and_the_channels(table: Path) -> None:
    def fingerprint() -> str:
        return read_metadata(str(table)).fingerprint

    found = [fingerprint()]
    assert fingerprint() == found[0]
    (table / "metadata.csv").write_text(CSV.replace("U2OS", "HeLa"))
    found.append(fingerprint())
    (table / "channels.txt").write_text("DNA\n")
    found.append(fingerprint())
    assert len(set(found)) == 3


def test_channel_names_are_the_lines_of_channels_txt(table: Path) -> None:
    assert read_metadata(str(table)).channels is None
    (table / "channels.txt").write_text(" microtubules \nprotein\n\nnucleus\nER\n\n")

    assert read_metadata(str(table)).channels == ("microtubules", "protein", "nucleus", "ER")


def test_channel_names_are_found_beside_the_table_too(table: Path, tmp_path: Path) -> None:
    images = tmp_path / "elsewhere"
    images.mkdir()
    (table / "channels.txt").write_text("DNA\nRNA\n")
    assert read_metadata(str(table), root=str(images)).channels == ("DNA", "RNA")

    (images / "channels.txt").write_text("RNA\nDNA\n")
    assert read_metadata(str(table), root=str(images)).channels == ("RNA", "DNA")


def test_an_empty_channels_txt_names_nothing(table: Path) -> None:
    (table / "channels.txt").write_text("\n\n")

    assert read_metadata(str(table)).channels is None


def test_a_channel_name_that_occurs_twice_is_an_error(table: Path) -> None:
    (table / "channels.txt").write_text("DNA\nRNA\nDNA\n")

    with pytest.raises(DataError, match=r"channels\.txt: a channel name occurs twice \(DNA, RNA, DNA\); give each channel its own name"):
        read_metadata(str(table))


# Mistakes


def test_a_directory_without_a_table_is_told_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_metadata(str(tmp_path))

    assert str(caught.value).startswith(f"{tmp_path}/metadata.csv: no such file; give a directory or URL that holds a metadata.csv")


@pytest.mark.parametrize(("header", "nearest"), [("File", "File"), ("files", "files"), ("file ", "file "), ("file;ID", "file;ID")])
def test_a_missing_file_column_is_answered_with_the_nearest_name(tmp_path: Path, header: str, nearest: str) -> None:
    message = refusal(tmp_path, f"{header},plate\na.png,1\n")

    assert f"there is no column 'file' (the image of each cell); did you mean '{nearest}'?" in message


def test_a_missing_column_without_a_likeness_is_answered_with_all_columns(table: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'plate' \(classification\.group\); it has: file, ID, cell_type, Mitochondria\."):
        read_metadata(str(table)).column("plate", "classification.group")

    with pytest.raises(DataError, match="did you mean 'cell_type'"):
        read_metadata(str(table)).column("celltype", "classification.label")
    assert read_metadata(str(table)).column("cell_type", "classification.label").tolist() == ["U2OS", "NA"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("file,ID\na.png,1\n,2\nb.png,3\n", 3),
        ("file,ID\na.png,1\n  ,2\n", 3),
        ("file,ID\n\na.png,1\n\n\n,2\n", 6),
        ('file,note\na.png,"two\nlines"\n,2\n', 4),
        ("\ufefffile,ID\r\n,1\r\n", 2),
        ("ID,file\n1,a.png\n2\n", 3),
    ],
)
def test_an_empty_file_cell_is_named_by_its_line(tmp_path: Path, content: str, line: int) -> None:
    message = refusal(tmp_path, content)

    assert f"metadata.csv, line {line}: the column 'file' is empty; name the image of this cell or delete the row." in message


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    assert "the table has no rows; it needs one row a cell." in refusal(tmp_path, "file,ID\n")


@pytest.mark.parametrize(
    "content",
    ["", "file,ID\na.png,1\nb.png,2,3\n", "file,ID\na.png,1,2\nb.png,2,3\n", 'file,ID\n"a.png,1\n', "file,ID\naµ.png,1\n".encode("latin-1"),
     "file,ID\na.png,1\n".encode("utf-16")],
    ids=["empty", "one row too long", "all rows too long", "open quote", "latin-1", "utf-16"],
)  # fmt: skip
def test_what_is_no_csv_is_an_error(tmp_path: Path, content: str | bytes) -> None:
    message = refusal(tmp_path, content)

    assert "metadata.csv: not a CSV that can be read (" in message
    assert message.endswith("save it as comma-separated UTF-8 text.")
