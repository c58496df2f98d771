"""How an artifact of the pipeline is written by other pods than the step's: where to, and how they reach the object store.

Kubeflow Pipelines plans the URI of an output and uploads what lies at its local path. Where nothing lies there it records the planned URI
all the same. So the pods of a job write to that URI themselves; the step leaves the local path empty and checks what they wrote.

Endpoint and credentials are looked for in one order: parameters (and the settings of jobs), the environment of the step, the config map
`kfp-launcher`, the default of Kubeflow Pipelines. Credentials are handed over by the name of a secret, never by value.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from dino4cells import storage
from dino4cells.cluster.job import SecretVariable
from dino4cells.cluster.providers import SecretKeys, provider_of
from dino4cells.cluster.settings import JobSettings
from dino4cells.cluster.variables import ACCESS, ENDPOINT, REGION, SECRET
from dino4cells.errors import ConfigError

_REGIONS = (REGION, "AWS_REGION")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", ENDPOINT)
BUCKETS = ("minio", "s3", "gs")
"""Schemes of URIs that other pods can write."""


@dataclass(frozen=True)
class Place:
    """Where an artifact goes.

    Attributes:
        url: as the processes that write it say it.
        checkpoints: what an interrupted job goes on from; the same over retries, since they share the URI of the artifact.
    """

    url: str
    checkpoints: str


def place_of(uri: str) -> Place:
    """Where the pods of a job write the artifact that Kubeflow Pipelines has planned at a URI.

    The checkpoints' name does not begin with that of the artifact: consumers of an artifact are given all objects whose names begin with
    its own, up to some release of Kubeflow Pipelines `model.checkpoints/…` as well as `model/…`.

    Raises:
        ConfigError: a place that other pods cannot write.

    Example:
        >>> place_of("minio://mlpipeline/v2/artifacts/dino4cells/run/train/model").url
        's3://mlpipeline/v2/artifacts/dino4cells/run/train/model'
    """
    scheme, separator, path = uri.partition("://")
    if not separator or scheme not in BUCKETS:
        raise ConfigError(
            f"launcher: 'pytorchjob' writes the artifact from other pods, which do not see {uri}; it needs a cluster with Kubeflow "
            "Pipelines, so use 'local' on this machine."
        )
    if "?" in path:
        raise ConfigError(f"{uri}: the pipeline root has a query, which the pods of a job cannot use; use a root without '?…'.")
    url = f"{'s3' if scheme == 'minio' else scheme}://{path.rstrip('/')}"
    return Place(url, storage.join(storage.parent(url), f"checkpoints-of-{posixpath.basename(path.rstrip('/'))}"))


@dataclass(frozen=True)
class Store:
    """An object store, as the pods of a job are told of it.

    Attributes:
        environment: variables that are no secrets: endpoint, region.
        secrets: variables whose values are in secrets.
        own_account: the credentials are those of the service account (IRSA, workload identity), or the store wants none.
        sources: what was found where, for people: `{"endpoint": "parameter endpoint", …}`.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SecretVariable, ...] = ()
    own_account: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)

    def over(self, settings: JobSettings, account: str | None = None) -> JobSettings:
        """Settings of jobs with this store added; what they say themselves stays.

        Args:
            settings: of the cluster.
            account: service account of this step, which the pods use too where the store knows them by it alone.
        """
        own = {*settings.environment, *(secret.variable for secret in settings.secrets)}
        environment = {name: value for name, value in self.environment.items() if name not in own}
        secrets = tuple(secret for secret in self.secrets if secret.variable not in own)
        placement = settings.placement
        if self.own_account and placement.service_account is None and account:
            placement = replace(placement, service_account=account)
        return replace(
            settings, environment={**settings.environment, **environment}, secrets=(*settings.secrets, *secrets), placement=placement
        )

    def lines(self) -> list[str]:
        """What was found, and where: names, never values of secrets."""
        named = {variable.variable: f"secret {variable.secret}, key {variable.key}" for variable in self.secrets}
        endpoint = named.get(ENDPOINT) or self.environment.get(ENDPOINT) or "that of the provider"
        credentials = f"{named[ACCESS]}" if ACCESS in named else "those of the service account"
        return [
            f"object store: endpoint {endpoint} (from: {self.sources['endpoint']})",
            f"object store: credentials: {credentials} (from: {self.sources['credentials']})",
        ]


@dataclass(frozen=True)
class _Layer:
    """One place to look at: plain variables, and variables whose values are in secrets."""

    source: str
    plain: Mapping[str, str]
    secret: Mapping[str, SecretVariable]

    def endpoint(self) -> str | SecretVariable | None:
        for name in _ENDPOINTS:
            if name in self.secret:
                return replace(self.secret[name], variable=ENDPOINT)
            if self.plain.get(name):
                return _checked(self.plain[name], self.source)
        return None

    def credentials(self) -> tuple[SecretVariable, ...]:
        return (self.secret[ACCESS], self.secret[SECRET]) if {ACCESS, SECRET} <= self.secret.keys() else ()

    def region(self) -> str:
        return next((self.plain[name] for name in _REGIONS if self.plain.get(name)), "")


def store_of(
    uri: str,
    settings: JobSettings | None = None,
    *,
    endpoint: str = "",
    secret: str = "",
    environment: Mapping[str, str] | None = None,
    references: Mapping[str, SecretVariable] | None = None,
    launcher_config: Mapping[str, str] | None = None,
    version: str = "",
) -> Store:
    """The object store of an artifact's URI.

    Args:
        uri: as Kubeflow Pipelines plans it, or a plain `s3://…`.
        settings: of jobs; variables that they give come before all but the parameters.
        endpoint: parameter: URL, or nothing.
        secret: parameter: a secret that is there, with the keys `accesskey` and `secretkey`, or nothing.
        environment: of the step; its endpoint and region are taken over.
        references: those variables of the environment whose values are in secrets.
        launcher_config: data of the config map `kfp-launcher`, or None: there is none.
        version: of Kubeflow Pipelines, or nothing: not known.

    Raises:
        ConfigError: a wrong endpoint or config map.
    """
    settings, environment, references = settings or JobSettings(), environment or {}, references or {}
    layers = [
        _Layer("parameter endpoint", {ENDPOINT: endpoint}, {}),
        _Layer("parameter secret", {}, {item.variable: item for item in _variables(SecretKeys(secret) if secret else None)}),
        _Layer("settings", settings.environment, {item.variable: item for item in settings.secrets}),
        _Layer("environment of the step", environment, references),
    ]
    provider = provider_of(uri, launcher_config, version)
    sources = {"endpoint": provider.source, "credentials": provider.source}
    plain = {ENDPOINT: provider.endpoint} if provider.endpoint else {}
    hidden: tuple[SecretVariable, ...] = ()
    for layer in layers:
        if (address := layer.endpoint()) is not None:
            sources["endpoint"] = layer.source
            plain, hidden = ({}, (address,)) if isinstance(address, SecretVariable) else ({ENDPOINT: address}, ())
            break
    keys = _variables(provider.keys)
    for layer in layers:
        if credentials := layer.credentials():
            sources["credentials"], keys = layer.source, credentials
            break
    if not keys and "AWS_WEB_IDENTITY_TOKEN_FILE" in environment:
        sources["credentials"] = "environment of the step: the role of its service account"
    elif not keys and environment.get(ACCESS):
        raise ConfigError(
            f"{uri}: the credentials in this step's environment are in no secret that the pods of a job could name; "
            "put them into a secret and name it (parameter secret)."
        )
    region = next((layer.region() for layer in layers if layer.region()), provider.region)
    return Store({**plain, **({REGION: region} if region else {})}, hidden + keys, not keys, sources)


def _variables(keys: SecretKeys | None) -> tuple[SecretVariable, ...]:
    if keys is None:
        return ()
    return SecretVariable(ACCESS, keys.secret, keys.access_key), SecretVariable(SECRET, keys.secret, keys.secret_key)


def _checked(endpoint: str, source: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{source}: '{endpoint}' is no address of an object store; write for example http://seaweedfs.kubeflow:9000.")
    if "@" in parts.netloc:
        raise ConfigError(f"{source}: holds a password, which would be readable in the manifest; keep it in a secret and name that.")
    return endpoint
