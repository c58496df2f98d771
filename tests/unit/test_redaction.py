"""What opens a door is found in texts and hidden, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dino4cells.errors import StorageError
from dino4cells.redaction import holds_secret, is_secret_name, redacted

# What a person types between a colon and an @; no blanks, which end a URL in a text.
PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40).filter(
    lambda word: not word.split("/")[0].split("?")[0].split("#")[0].strip("'\",)]}").isdigit() and not word[0].isdigit()
)


@given(PASSWORDS, st.sampled_from(["s3", "https", "minio", "sftp", "mysql+ssl"]), st.sampled_from(["", "user", "AKIA0000"]))
def test_a_password_in_an_address_is_found_and_hidden_whatever_it_is(password: str, scheme: str, user: str) -> None:
    url = f"{scheme}://{user}:{password}@host.example/cells/metadata.csv"

    assert holds_secret(url)
    assert password not in redacted(f"reading {url}: no such file")
    assert password not in str(StorageError(f"{url}: no such file"))


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Algorithm=A&X-Amz-Credential=planted-1&X-Amz-Signature=planted-2&X-Amz-Security-Token=planted-3",
        "AWSAccessKeyId=planted-1&Expires=1&Signature=planted-2",
        "sv=2022&sig=planted-1",
        "X-Goog-Signature=planted-1",
        "download=true&access_token=planted-1",
        "api_key=planted-1",
    ],
)
def test_what_a_signed_address_is_opened_with_is_hidden(query: str) -> None:
    url = f"https://host.example/model.pth?{query}"

    assert holds_secret(url)
    assert "planted" not in redacted(url)
    assert redacted(url).startswith("https://host.example/model.pth?")


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/plates/a@b/cell.png",
        "http://127.0.0.1:9000/bucket/a@b",
        "http://[::1]:9000/bucket/a@b",
        "sftp://alice@host/cells",
        "abfs://container@account.dfs.core.windows.net/cells",
        "s3://bucket/key?versionId=3&design=2",
        "https://host/metadata.csv?page=2",
        '{"data":"http://host:9000","mail":"a@b"}',
        "/data/token=1/cells@home.csv",
        "C:\\cells\\a@b",
        "model.data_path: s3://lab/cells; write to a@b.example",
    ],
)
def test_other_addresses_and_texts_stay_as_they_are(text: str) -> None:
    assert not holds_secret(text)
    assert redacted(text) == text


def test_secrets_of_the_environment_are_hidden_and_places_of_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_planted0000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted/secret+key\n")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token")

    text = redacted("hf_planted0000 and planted/secret+key of /var/run/secrets/token")

    assert text == "*** and *** of /var/run/secrets/token"


@pytest.mark.parametrize(
    ("name", "secret"), [("HF_TOKEN", True), ("AWS_ACCESS_KEY_ID", True), ("DB_PASSWD", True), ("GOOGLE_APPLICATION_CREDENTIALS", False)]
)
def test_a_variable_is_known_for_a_secret_by_its_name(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_a_long_text_made_to_be_slow_is_not() -> None:
    """Seconds of it would be a way to stop a run by a file's name; it takes about 0.1 s."""
    hostile = "s3://a:" * 20_000 + "?x&y;" * 20_000

    assert redacted(hostile) == hostile
