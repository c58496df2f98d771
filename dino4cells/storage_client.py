"""The client of S3: that of s3fs, which repeats what fails for the moment, and takes no object for whole that is not.

s3fs brings parts of large objects, several at a time, and botocore the signatures. What they repeat by themselves is neither counted nor
bounded in time, and does not heed Retry-After.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any

from s3fs import S3FileSystem

from dino4cells import storage_retry
from dino4cells.storage_retry import WrongLength, asked_pause, count_repeat, kind_of, kind_of_answer, time_limit
from dino4cells.storage_s3 import CONNECTIONS

_MD5 = re.compile(r"[0-9a-f]{32}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class S3Client(S3FileSystem):  # type: ignore[misc]
    """An S3 store.

    Args:
        generation: another one has connections and credentials of its own.
        options: of `S3FileSystem`.
    """

    retries = 1  # `storage` repeats an operation as a whole, and counts that

    def __init__(self, *, generation: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.generation = generation
        self.batch_size = CONNECTIONS  # at a time of one call: none waits for a connection while its time runs
        self._etags_are_digests, self._doubted = True, dict[str, str | None]()

    async def set_session(self, refresh: bool = False, kwargs: Any = None) -> Any:
        """The client of botocore; every request that fails for the moment asks `_needs_retry`."""
        before = self._s3
        client = await super().set_session(refresh)
        if client is not before:
            client.meta.events.register_first("needs-retry.s3", _needs_retry, unique_id="dino4cells-needs-retry")
        return client

    async def _call_s3(self, method: str, *arguments: Any, **options: Any) -> Any:
        """One request with its repeats, which has an end even where every byte comes just before the socket's timeout."""
        body = options.get("Body")
        limit = time_limit(len(body) if isinstance(body, bytes) else None)
        return await asyncio.wait_for(super()._call_s3(method, *arguments, **options), limit)

    async def _cat_file(
        self, path: str, version_id: str | None = None, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """The content of an object by one request, where s3fs would ask for its size first."""
        bucket, key, _version = self.split_path(path)
        asked = {} if start is None and end is None else {"Range": await self._process_limits(path, start, end)}
        answer = await self._call_s3("get_object", Bucket=bucket, Key=key, **asked)
        body, announced = answer["Body"], answer.get("ContentLength")
        try:
            content: bytes = await asyncio.wait_for(body.read(), time_limit(announced))
        finally:
            body.close()
        wanted = _length_of(answer.get("ContentRange")) if asked else announced
        if wanted is not None and len(content) != wanted:
            raise WrongLength(f"{len(content)} bytes came where {wanted} were announced")
        if not asked:
            self._compare(path, content, answer)
        if asked and start is not None and end is not None and len(content) > end - start:
            raise WrongLength(f"{len(content)} bytes came where {end - start} were asked for")
        return content

    def _compare(self, path: str, content: bytes, answer: Any) -> None:
        """Hold a whole object against its MD5, which most stores give as its ETag: a length that says too little cuts it unseen.

        Not every ETag of this form is an MD5, so the same content is believed when it comes a second time.
        """
        digest = _digest_of(answer) if self._etags_are_digests else None
        found = hashlib.md5(content, usedforsecurity=False).hexdigest() if digest else None
        if found == digest:
            return
        if self._doubted.pop(path, None) != found:
            self._doubted[path] = found
            raise WrongLength(f"{len(content)} bytes came, of which the MD5 is not the store's {digest}")
        self._etags_are_digests = False


def _digest_of(answer: Any) -> str | None:
    """The MD5 of an object that an answer gives as its ETag; None: that is another number, as for uploads in parts and some encryption."""
    etag: str = answer.get("ETag", "").strip('"').lower()
    encrypted = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
    return etag if _MD5.fullmatch(etag) and not encrypted else None


def _needs_retry(response: Any, attempts: int, caught_exception: BaseException | None, **_: Any) -> float | None:
    """For botocore: seconds after which a request is sent again, or None."""
    asked = 0.0
    if caught_exception is not None:
        kind = kind_of(caught_exception)
    else:
        answer, parsed = response
        # An answer that begins as a good one, and says later that it failed, has another status here than in its first line.
        status = parsed.get("ResponseMetadata", {}).get("HTTPStatusCode", answer.status_code)
        kind, asked = kind_of_answer(status, parsed.get("Error", {}).get("Code", "")), asked_pause(answer.headers)
    if kind is None or attempts >= storage_retry.REQUEST_ATTEMPTS:
        return None
    count_repeat(kind)
    return storage_retry.pause(attempts, asked)


def _length_of(content_range: str | None) -> int | None:
    """Bytes that the header Content-Range announces."""
    found = _CONTENT_RANGE.fullmatch(content_range or "")
    return int(found[2]) - int(found[1]) + 1 if found else None
