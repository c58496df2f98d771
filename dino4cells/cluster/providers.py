"""What Kubeflow Pipelines knows of its object stores: the config map `kfp-launcher` of a namespace, and what holds where that says nothing.

The rules are those of the launcher of Kubeflow Pipelines (backend/src/v2/config and objectstore, up to 2.17).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from dino4cells.errors import ConfigError

KFP_LAUNCHER = "kfp-launcher"
"""Config map of a namespace in which runs execute."""

DEFAULT_SECRET, ACCESS_KEY, SECRET_KEY = "mlpipeline-minio-artifact", "accesskey", "secretkey"
DEFAULT_ENDPOINT = "seaweedfs.kubeflow:9000"
ENDPOINT_BEFORE_2_16 = "minio-service.kubeflow:9000"


@dataclass(frozen=True)
class SecretKeys:
    """Which keys of which secret hold the two halves of an S3 credential."""

    secret: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY


@dataclass(frozen=True)
class Provider:
    """An object store as Kubeflow Pipelines uses it.

    Attributes:
        source: where this stands, for people.
        endpoint: URL, or nothing: the store's own (AWS).
        region: or nothing.
        keys: the credential, or None: that of the pod's service account or environment.
    """

    source: str
    endpoint: str = ""
    region: str = ""
    keys: SecretKeys | None = None


def provider_of(uri: str, launcher_config: Mapping[str, str] | None, version: str = "") -> Provider:
    """The store that a URI of an artifact lies in.

    Args:
        uri: `minio://bucket/…`, `s3://bucket/…` or `gs://bucket/…`.
        launcher_config: data of the config map `kfp-launcher`, or None: there is none.
        version: of Kubeflow Pipelines, such as `2.15.0`; a newer one where it is not known.

    Raises:
        ConfigError: the config map says something that Kubeflow Pipelines could not use either.
    """
    scheme, _, path = uri.partition("://")
    text = (launcher_config or {}).get("providers", "")
    try:
        providers = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        raise _refusal("providers", f"is no valid YAML ({str(error).splitlines()[0]})") from error
    provider = _section(providers, scheme, "providers")
    default = _section(provider, "default", scheme)
    overrides = next((value for key, value in provider.items() if key.lower() == "overrides"), None)
    if not default and overrides is None:
        return _without_entry(scheme, version)
    if not default.get("credentials"):
        raise _refusal(f"providers.{scheme}.default.credentials", "is missing")
    place, source = f"providers.{scheme}.default", dict(default)
    for entry in overrides or ():
        if _covers(entry, path):
            place = f"providers.{scheme}.overrides ({entry['bucketName']}/{entry.get('keyPrefix', '')})"
            source.update({key: value for key, value in entry.items() if value not in ("", None)})
            source["credentials"] = entry.get("credentials")
            break
    credentials = _section(source, "credentials", place)
    keys = None if credentials.get("fromEnv") else _secret_keys(_section(credentials, "secretRef", place), scheme, place)
    return Provider(
        f"config map {KFP_LAUNCHER}, {place}",
        _url(str(source.get("endpoint") or ""), tls=not source.get("disableSSL", False)),
        str(source.get("region") or ""),
        keys,
    )


def _without_entry(scheme: str, version: str) -> Provider:
    if scheme != "minio":
        return Provider(f"{scheme}:// without an entry in config map {KFP_LAUNCHER}")
    old = _numbers(version) is not None and (_numbers(version) or (0, 0)) < (2, 16)
    source = f"default of Kubeflow Pipelines {version or '2.16 and later'}"
    endpoint = ENDPOINT_BEFORE_2_16 if old else DEFAULT_ENDPOINT
    return Provider(source, f"http://{endpoint}", "minio", SecretKeys(DEFAULT_SECRET))


def _numbers(version: str) -> tuple[int, int] | None:
    major, _, rest = version.lstrip("v").partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _covers(override: Mapping[str, Any], path: str) -> bool:
    bucket, _, key = path.partition("/")
    prefix = str(override.get("keyPrefix") or "").strip("/")
    return override.get("bucketName") == bucket and (not prefix or f"{key}/".startswith(f"{prefix}/"))


def _secret_keys(reference: Mapping[str, Any], scheme: str, place: str) -> SecretKeys:
    names = ("secretName", "tokenKey") if scheme == "gs" else ("secretName", "accessKeyKey", "secretKeyKey")
    for name in names:
        if not reference.get(name):
            raise _refusal(f"{place}.credentials.secretRef.{name}", "is missing")
    if scheme == "gs":
        raise _refusal(
            f"{place}.credentials.secretRef", "names a key file, which cannot reach the pods of a job", "use fromEnv and workload identity"
        )
    return SecretKeys(str(reference["secretName"]), str(reference["accessKeyKey"]), str(reference["secretKeyKey"]))


def _url(endpoint: str, *, tls: bool) -> str:
    """An endpoint with its scheme; nothing for AWS itself, which finds its own by the region."""
    bare = endpoint.partition("://")[2] or endpoint
    if not bare or bare.lower().startswith("s3.amazonaws.com"):
        return ""
    return endpoint if "://" in endpoint else f"{'https' if tls else 'http'}://{endpoint}"


def _section(values: Any, key: str, place: str) -> Mapping[str, Any]:
    section = values.get(key) if isinstance(values, Mapping) else values
    if section is None:
        return {}
    if not isinstance(values, Mapping) or not isinstance(section, Mapping):
        raise _refusal(f"{place}.{key}", "holds no keys")
    return section


def _refusal(place: str, reason: str, remedy: str = "correct it, or name a secret and an endpoint yourself") -> ConfigError:
    return ConfigError(f"config map {KFP_LAUNCHER}: {place} {reason}; {remedy}.")
