"""Where the pods of a job write an artifact of the pipeline, and how they find its object store."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from dino4cells.cluster.handoff import place_of, store_of
from dino4cells.cluster.job import Placement, SecretVariable
from dino4cells.cluster.settings import JobSettings
from dino4cells.cluster.step import step_pod
from dino4cells.errors import ConfigError

URI = "minio://mlpipeline/v2/artifacts/dino4cells/run-1/train/uuid/model"
S3 = "s3://lab/kfp/dino4cells/run-1/train/uuid/model"


def launcher_config(text: str) -> dict[str, str]:
    return {"defaultPipelineRoot": "minio://mlpipeline/v2/artifacts", "providers": text}


def reference(variable: str, secret: str, key: str) -> SecretVariable:
    return SecretVariable(variable, secret, key)


def credentials(secret: str, access: str = "accesskey", hidden: str = "secretkey") -> tuple[SecretVariable, ...]:
    return reference("AWS_ACCESS_KEY_ID", secret, access), reference("AWS_SECRET_ACCESS_KEY", secret, hidden)


# Places


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (URI, "s3://mlpipeline/v2/artifacts/dino4cells/run-1/train/uuid/model"),
        (S3, S3),
        (f"{S3}/", S3),
        ("gs://lab/kfp/run/model", "gs://lab/kfp/run/model"),
        ("s3://lab/model", "s3://lab/model"),
    ],
)
def test_pods_write_to_the_planned_place(uri: str, url: str) -> None:
    assert place_of(uri).url == url


@pytest.mark.parametrize("uri", [URI, S3, "gs://lab/kfp/run/model"])
def test_checkpoints_lie_beside_the_artifact_and_no_listing_by_its_name_finds_them(uri: str) -> None:
    place = place_of(uri)
    assert place.checkpoints.rpartition("/")[0] == place.url.rpartition("/")[0]
    assert not place.checkpoints.startswith(place.url)


@pytest.mark.parametrize("uri", ["/runs/train/model", "runs/model", "file:///runs/model", "memory://model", "oci://registry/model"])
def test_a_place_of_this_machine_is_refused_in_one_sentence(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"launcher: 'pytorchjob' .* cluster .* use 'local' on this machine\.$"):
        place_of(uri)


def test_a_root_with_a_query_is_refused() -> None:
    with pytest.raises(ConfigError, match="query"):
        place_of("s3://lab/kfp/model?region=eu-west-1")


# Stores

MINIO = """
minio:
  default:
    endpoint: minio.lab:9000
    region: lab-1
    disableSSL: true
    credentials: {fromEnv: false, secretRef: {secretName: store, accessKeyKey: id, secretKeyKey: key}}
"""
AWS = """
s3:
  default:
    endpoint: s3.amazonaws.com
    region: eu-west-1
    credentials: {fromEnv: true}
"""
OVERRIDDEN = """
s3:
  default:
    endpoint: https://objects.lab
    region: lab-1
    credentials: {fromEnv: false, secretRef: {secretName: store, accessKeyKey: id, secretKeyKey: key}}
  overrides:
  - {bucketName: other, credentials: {fromEnv: true}}
  - bucketName: lab
    keyPrefix: kfp/dino4cells/
    region: lab-2
    credentials: {fromEnv: false, secretRef: {secretName: ours, accessKeyKey: id, secretKeyKey: key}}
  - {bucketName: lab, credentials: {fromEnv: true}}
"""
OTHER_PREFIX = OVERRIDDEN.replace("kfp/dino4cells/", "kfp/dino4").replace("- {bucketName: lab, credentials: {fromEnv: true}}", "")


@pytest.mark.parametrize(
    ("uri", "given", "environment", "secrets"),
    [
        pytest.param(
            URI, {}, {"AWS_ENDPOINT_URL": "http://seaweedfs.kubeflow:9000", "AWS_DEFAULT_REGION": "minio"},
            credentials("mlpipeline-minio-artifact"), id="the default of Kubeflow Pipelines",
        ),
        pytest.param(
            URI, {"version": "2.15.0"}, {"AWS_ENDPOINT_URL": "http://minio-service.kubeflow:9000", "AWS_DEFAULT_REGION": "minio"},
            credentials("mlpipeline-minio-artifact"), id="the default before 2.16",
        ),
        pytest.param(
            URI, {"version": "2.16.1", "launcher_config": {}},
            {"AWS_ENDPOINT_URL": "http://seaweedfs.kubeflow:9000", "AWS_DEFAULT_REGION": "minio"},
            credentials("mlpipeline-minio-artifact"), id="an empty config map",
        ),
        pytest.param(
            URI, {"launcher_config": launcher_config(AWS)},
            {"AWS_ENDPOINT_URL": "http://seaweedfs.kubeflow:9000", "AWS_DEFAULT_REGION": "minio"},
            credentials("mlpipeline-minio-artifact"), id="a config map about another provider",
        ),
        pytest.param(
            URI, {"launcher_config": launcher_config(MINIO)}, {"AWS_ENDPOINT_URL": "http://minio.lab:9000", "AWS_DEFAULT_REGION": "lab-1"},
            credentials("store", "id", "key"), id="the config map",
        ),
        pytest.param(
            URI, {"launcher_config": launcher_config(MINIO.replace("disableSSL: true", ""))},
            {"AWS_ENDPOINT_URL": "https://minio.lab:9000", "AWS_DEFAULT_REGION": "lab-1"},
            credentials("store", "id", "key"), id="TLS unless it is switched off",
        ),
        pytest.param(
            S3, {"launcher_config": launcher_config(AWS)}, {"AWS_DEFAULT_REGION": "eu-west-1"}, (), id="AWS with the role of the account",
        ),
        pytest.param(S3, {}, {}, (), id="S3 without an entry"),
        pytest.param(
            S3, {"launcher_config": launcher_config(OVERRIDDEN)},
            {"AWS_ENDPOINT_URL": "https://objects.lab", "AWS_DEFAULT_REGION": "lab-2"},
            credentials("ours", "id", "key"), id="the first override that covers the place",
        ),
        pytest.param(
            S3, {"launcher_config": launcher_config(OTHER_PREFIX)},
            {"AWS_ENDPOINT_URL": "https://objects.lab", "AWS_DEFAULT_REGION": "lab-1"},
            credentials("store", "id", "key"), id="a prefix ends where a folder ends",
        ),
        pytest.param(
            URI, {"launcher_config": launcher_config(MINIO), "environment": {"AWS_ENDPOINT_URL": "http://env:1", "AWS_REGION": "here"}},
            {"AWS_ENDPOINT_URL": "http://env:1", "AWS_DEFAULT_REGION": "here"}, credentials("store", "id", "key"),
            id="the environment before the config map, each for itself",
        ),
        pytest.param(
            URI,
            {
                "environment": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "http://hidden"},
                "references": {
                    "AWS_ACCESS_KEY_ID": reference("AWS_ACCESS_KEY_ID", "mine", "x"),
                    "AWS_SECRET_ACCESS_KEY": reference("AWS_SECRET_ACCESS_KEY", "mine", "y"),
                    "AWS_ENDPOINT_URL": reference("AWS_ENDPOINT_URL", "mine", "endpoint"),
                },
            },
            {"AWS_DEFAULT_REGION": "minio"},
            (reference("AWS_ENDPOINT_URL", "mine", "endpoint"), *credentials("mine", "x", "y")),
            id="the step's own secrets by name",
        ),
        pytest.param(
            URI, {"endpoint": "http://given:9000", "secret": "named", "launcher_config": launcher_config(MINIO),
                  "environment": {"AWS_ENDPOINT_URL": "http://env:1"}},
            {"AWS_ENDPOINT_URL": "http://given:9000", "AWS_DEFAULT_REGION": "lab-1"}, credentials("named"), id="parameters before all",
        ),
        pytest.param(
            URI, {"settings": JobSettings(environment={"AWS_ENDPOINT_URL": "http://set"}, secrets=credentials("set", "i", "k")),
                  "environment": {"AWS_ENDPOINT_URL": "http://env:1"}},
            {"AWS_ENDPOINT_URL": "http://set", "AWS_DEFAULT_REGION": "minio"}, credentials("set", "i", "k"), id="settings of the jobs",
        ),
        pytest.param(
            URI, {"environment": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}},
            {"AWS_ENDPOINT_URL": "http://seaweedfs.kubeflow:9000", "AWS_DEFAULT_REGION": "minio"},
            credentials("mlpipeline-minio-artifact"), id="values of the environment are not handed over",
        ),
        pytest.param("gs://lab/kfp/model", {}, {}, (), id="Google with workload identity"),
    ],
)  # fmt: skip
def test_endpoint_region_and_credentials_are_found_in_order(
    uri: str, given: dict[str, Any], environment: dict[str, str], secrets: tuple[SecretVariable, ...]
) -> None:
    store = store_of(uri, **given)
    assert dict(store.environment) == environment
    assert store.secrets == secrets
    assert store.own_account == (not any(secret.variable == "AWS_ACCESS_KEY_ID" for secret in secrets))


def test_the_log_names_sources_and_secrets_and_no_value() -> None:
    environment = {"AWS_ACCESS_KEY_ID": "AKIA-value", "AWS_SECRET_ACCESS_KEY": "value-of-it"}
    references = {variable.variable: variable for variable in credentials("mine")}
    lines = "\n".join(store_of(URI, environment=environment, references=references, launcher_config=launcher_config(MINIO)).lines())
    assert "endpoint http://minio.lab:9000 (from: config map kfp-launcher, providers.minio.default)" in lines
    assert "credentials: secret mine, key accesskey (from: environment of the step)" in lines
    assert "value" not in lines


@pytest.mark.parametrize(
    ("uri", "given", "reason"),
    [
        (URI, {"endpoint": "seaweedfs:9000"}, "parameter endpoint: 'seaweedfs:9000' is no address"),
        (URI, {"endpoint": "http://me:password@store"}, "parameter endpoint: holds a password"),
        (S3, {"environment": {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}}, "are in no secret that the pods"),
        (URI, {"launcher_config": {"providers": "minio: {"}}, "config map kfp-launcher: providers is no valid YAML"),
        (URI, {"launcher_config": {"providers": "minio: {default: {endpoint: a}}"}}, "providers.minio.default.credentials is missing"),
        (URI, {"launcher_config": {"providers": "minio: {default: {credentials: {fromEnv: false}}}"}}, "secretRef.secretName is missing"),
        (URI, {"launcher_config": {"providers": "minio: text"}}, "config map kfp-launcher: providers.minio holds no keys"),
        ("gs://lab/m", {"launcher_config": {"providers": yaml.safe_dump(
            {"gs": {"default": {"credentials": {"secretRef": {"secretName": "s", "tokenKey": "t"}}}}})}}, "workload identity"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(uri: str, given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        store_of(uri, **given)
    assert reason in str(raised.value)
    assert "password" not in str(raised.value).replace("holds a password", "")


# Settings


def test_settings_of_jobs_gain_the_store_and_keep_what_they_say_themselves() -> None:
    settings = JobSettings(image="lab/dino4cells:1", environment={"AWS_ENDPOINT_URL": "http://set", "TEAM": "7"})
    whole = store_of(URI, settings).over(settings, "default-editor")
    assert whole.environment == {"AWS_ENDPOINT_URL": "http://set", "TEAM": "7", "AWS_DEFAULT_REGION": "minio"}
    assert whole.secrets == credentials("mlpipeline-minio-artifact")
    assert whole.placement.service_account is None  # the secret is enough
    assert whole.image == "lab/dino4cells:1"


def test_pods_use_the_account_of_the_step_where_the_store_knows_them_by_it() -> None:
    assert store_of(S3).over(JobSettings(), "default-editor").placement.service_account == "default-editor"
    own = JobSettings(placement=Placement(service_account="trainer"))
    assert store_of(S3, own).over(own, "default-editor").placement.service_account == "trainer"


# The step's pod


def test_a_pod_says_which_secrets_its_variables_come_from_and_which_version_started_it() -> None:
    pod = {
        "spec": {
            "serviceAccountName": "default-editor",
            "initContainers": [
                {"name": "init", "image": "argo:3"},
                {"name": "kfp-launcher", "image": "ghcr.io/kfp-launcher:2.15.0"},
            ],
            "containers": [
                {"name": "wait", "env": [{"name": "AWS_ENDPOINT_URL", "valueFrom": {"secretKeyRef": {"name": "no", "key": "no"}}}]},
                {
                    "name": "main",
                    "env": [
                        {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "id", "optional": True}}},
                        {"name": "PLAIN", "value": "1"},
                        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    ],
                },
            ],
        }
    }
    known = step_pod(pod)
    assert (known.account, known.version) == ("default-editor", "2.15.0")
    assert dict(known.references) == {"AWS_ACCESS_KEY_ID": SecretVariable("AWS_ACCESS_KEY_ID", "mine", "id", optional=True)}


@pytest.mark.parametrize("image", ["ghcr.io/kubeflow/kfp-launcher:latest", "kfp-launcher", "registry:5000/kfp-launcher@sha256:00"])
def test_a_launcher_without_a_number_leaves_the_version_unknown(image: str) -> None:
    assert step_pod({"spec": {"initContainers": [{"name": "kfp-launcher", "image": image}], "containers": []}}).version == ""
