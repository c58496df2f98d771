"""Names of files in a table stay below the directory of the images: a table of someone else's must not choose what is read elsewhere.

Names are compared as text. Links that are in the directory are followed, wherever they lead: whoever put them there had the right to.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from dino4cells import storage
from dino4cells.errors import DataError
from dino4cells.redaction import holds_secret
from dino4cells.storage_s3 import plain

_SUSPECT = r"(^|[/\\])\.\.([/\\]|$)|://|::|^[/~]|[\x00-\x1f\x7f]"
"""What a name that stays below needs none of."""
_CONTROL = r"[\x00-\x1f\x7f]"


def first_outside(root: str, files_N: pa.Array) -> int | None:
    """The first row whose file is not below `root`; None where all are.

    An absolute path or a URL is below where it begins with the root's own.

    Args:
        root: directory or URL.
        files_N: names as the table has them.
    """
    top = _normal(root)
    for row, name in _suspects(files_N):
        whole = _normal(storage.join(root, name))
        if not (whole.startswith(top.rstrip("/") + "/") or top == ".") or whole.startswith("../"):
            return row
    return None


def first_with_control_character(files_N: pa.Array) -> int | None:
    """The first row whose file has a character in its name that no file has, such as a NUL byte or a line break."""
    found = pc.index(pc.match_substring_regex(files_N, _CONTROL), True).as_py()
    return None if found < 0 else int(found)


def first_with_secret(files_N: pa.Array) -> int | None:
    """The first row whose file is an address with a password or a signature in it, which features and logs would show."""
    rows = pc.indices_nonzero(pc.match_substring(files_N, "://"))
    return next((row for row in rows.to_pylist() if holds_secret(files_N[row].as_py())), None)


def check_channel_names(names: tuple[str, ...], where: str) -> None:
    """Refuse names of channels that would lead out of the directory where they are parts of names of files.

    Raises:
        DataError: one does.
    """
    for name in names:
        if ".." in name.replace("\\", "/").split("/") or "://" in name:
            raise DataError(f"{where}: the channel '{name}' is part of the images' names and leads out of their directory; rename it.")


def _suspects(files_N: pa.Array) -> Iterator[tuple[int, str]]:
    rows = pc.indices_nonzero(pc.match_substring_regex(files_N, _SUSPECT))
    for row in rows.to_pylist():
        yield row, files_N[row].as_py()


def _normal(url: str) -> str:
    """The URL without `.` and `..`, a local path made absolute."""
    if storage.is_local(url):
        return storage.absolute(url)
    scheme, separator, rest = plain(url).rpartition("://")
    return f"{scheme}{separator}{posixpath.normpath(rest)}"
