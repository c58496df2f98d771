"""Many files, or parts of files, asked for at once where the storage can; what is wrong with one stands at its place as a value."""

from __future__ import annotations

from collections.abc import Sequence

from dino4cells import storage_s3
from dino4cells.cache import Cache
from dino4cells.errors import StorageError, StoreRefused
from dino4cells.storage_asking import limit, may_pass, open_store, store_of, wait
from dino4cells.storage_errors import explain, is_local
from dino4cells.storage_retry import Patience

Range = tuple[str, "int | None", "int | None"]
"""A URL and the bytes of its file that are meant: first, and behind the last."""


def read_many(urls: Sequence[str], cache: Cache | None = None) -> list[bytes | StorageError]:
    """The contents of many files, asked for at once where the storage can; what is wrong with a file stands at its place as a value.

    Args:
        urls: of the files.
        cache: keeps what comes over a network, and is asked first.

    Raises:
        StoreUnavailable, StoreRefused: what is wrong is not that of one file; none would be read.
    """
    return read_ranges([(url, None, None) for url in urls], cache)


def read_ranges(ranges: Sequence[Range], cache: Cache | None = None) -> list[bytes | StorageError]:
    """As `read_many`, of each file the bytes from one place (included) to another (not included); None: its beginning, its end."""
    if cache is None:
        return _fetch(ranges)
    keys = [_cache_key(*wanted) for wanted in ranges]
    results: list[bytes | StorageError | None] = [cache.get(key) if key else None for key in keys]
    missing = [index for index, result in enumerate(results) if result is None]
    for index, content in zip(missing, _fetch([ranges[index] for index in missing]), strict=True):
        key, results[index] = keys[index], content
        if key and isinstance(content, bytes):
            cache.put(key, content)
    return [result for result in results if result is not None]


def _cache_key(url: str, start: int | None, end: int | None) -> str | None:
    """What a cache knows a range by; None for one that it does not keep, on this machine or in this process's memory."""
    if is_local(url) or url.startswith("memory://"):
        return None
    store = storage_s3.endpoint() if storage_s3.is_s3(url) else None
    return f"{store} {storage_s3.plain(url)} {start}-{end}"


def _fetch(ranges: Sequence[Range]) -> list[bytes | StorageError]:
    results: list[bytes | StorageError] = [b""] * len(ranges)
    stores: dict[str, list[int]] = {}
    for index, (url, _, _) in enumerate(ranges):
        scheme, separator, rest = url.rpartition("://")
        stores.setdefault(f"{scheme}://{rest.partition('/')[0]}" if separator else "", []).append(index)
    for indices in stores.values():
        patience = Patience(store_of(ranges[indices[0]][0]))
        while indices:
            again: dict[int, Exception] = {}
            for index, content in zip(indices, _fetch_at_once([ranges[index] for index in indices]), strict=True):
                if isinstance(content, bytes):
                    results[index] = content
                elif may_pass(ranges[index][0], content):
                    again[index] = content
                else:
                    results[index] = reason = explain(ranges[index][0], content)
                    if isinstance(reason, StoreRefused):
                        raise reason from (content if content is not reason else None)
            if again:
                first, error = next(iter(again.items()))
                wait(ranges[first][0], error, patience, len(again))
            else:
                patience.answered()
            indices = list(again)
    return results


def _fetch_at_once(ranges: Sequence[Range]) -> list[bytes | Exception]:
    """Ranges of files of one store, or for each what the storage raised."""
    urls, starts, ends = (list(part) for part in zip(*ranges, strict=True))
    try:
        fs, _ = open_store(urls[0])
        paths = [fs._strip_protocol(storage_s3.plain(url)) for url in urls]
        # Not fs.cat: it takes `*`, `?` and `[` in a file name for a pattern.
        end = {} if storage_s3.is_s3(urls[0]) else limit(fs, None)  # of S3 each object has its own
        contents: list[bytes | Exception] = fs.cat_ranges(paths, starts=starts, ends=ends, on_error="return", **end)
    except Exception as error:
        return [error] * len(urls)
    return contents
