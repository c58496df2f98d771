"""Nothing that opens a door is said or written: URLs that hold a password or a signature, and the secrets of this process's environment.

Such a URL is refused where it comes in (`storage`, `config`, the job's arguments); whatever text is put together out of it before that,
errors and log lines above all, passes through `redacted`.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import threading
import traceback
from types import TracebackType

HIDDEN = "***"

_SECRET_NAME = re.compile(r"secret|passw|token|access_?key|private_?key|api_?key|credential|cookie", re.IGNORECASE)
# `AWS_WEB_IDENTITY_TOKEN_FILE` says where a token is.
_PLACE_NAME = re.compile(r"_(file|path|dir|directory|url|uri|name)$|^google_application_credentials$", re.IGNORECASE)
_SHORTEST = 8
"""A shorter value of a variable is left: it would be found inside other words."""

# Lengths are bounded so that no text takes long. A secret key may hold slashes and @; a port, and a path with an @, are none.
_SCHEME = r"[a-z][a-z0-9+.-]{0,20}://"
_PASSWORD = re.compile(rf"({_SCHEME})[^\s/@:?#'\"\[]{{0,300}}:(?!\d{{1,5}}(?:[/?#'\",)\]}}]|$))[^\s]{{0,300}}@", re.IGNORECASE)
# A name alone opens these; elsewhere (sftp, abfs) it says who or where.
_USER = re.compile(r"((?:https?|s3a?|minio)://)[^\s/?#'\"]{1,300}@", re.IGNORECASE)
_OPENS = r"signature|credential|token|secret|passw|access_?key|api_?key"
_QUERY = re.compile(rf"([?&;](?:sig|[^=&;\s]{{0,60}}?(?:{_OPENS})[^=&;\s]{{0,60}})=)[^&;\s'\"]+", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic) [A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret itself, and not the place of one.

    Example:
        >>> is_secret_name("AWS_SECRET_ACCESS_KEY"), is_secret_name("AWS_WEB_IDENTITY_TOKEN_FILE")
        (True, False)
    """
    return bool(_SECRET_NAME.search(name)) and not _PLACE_NAME.search(name)


def holds_secret(text: str) -> bool:
    """Whether a URL, or any in a text, holds a password, a token or a signature.

    Example:
        >>> holds_secret("s3://user:password@bucket/key"), holds_secret("http://localhost:9000/bucket/a@b")
        (True, False)
    """
    return "://" in text and any(pattern.search(text) for pattern in (_PASSWORD, _USER, _QUERY))


def redacted(text: str) -> str:
    """The text without passwords, tokens and signatures in its URLs, and without the secrets of this process's environment.

    Example:
        >>> redacted("s3://user:password@bucket/key: access is denied.")
        's3://***@bucket/key: access is denied.'
    """
    if "://" in text:
        text = _PASSWORD.sub(rf"\1{HIDDEN}@", text)
        text = _USER.sub(rf"\1{HIDDEN}@", text)
        text = _QUERY.sub(rf"\1{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    for name, value in os.environ.items():
        value = value.strip()  # one that ends in a line break is often shown without it
        if len(value) >= _SHORTEST and _is_secret_name(name):
            text = text.replace(value, HIDDEN)
    return text


_is_secret_name = functools.lru_cache(maxsize=1024)(is_secret_name)


def hide_in_tracebacks() -> None:
    """From now on the tracebacks of this process, and of its threads, are printed without secrets: its standard error may be a log."""
    sys.excepthook = _print_traceback
    if threading.excepthook is threading.__excepthook__:  # not that of a debugger or a test
        threading.excepthook = _print_traceback_of_thread


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def _print_traceback_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
        _print_traceback(ended.exc_type, ended.exc_value, ended.exc_traceback)
