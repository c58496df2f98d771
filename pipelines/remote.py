"""The pipeline on a cluster: a run from the compiled pipeline that is packaged with this project, by the Kubeflow Pipelines SDK."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import urllib3

from dino4cells.errors import ConfigError, Dino4CellsError, JobFailed
from dino4cells.pipelines.arguments import COMPILED
from dino4cells.redaction import holds_secret

ENDPOINT, UI_ENDPOINT, TOKEN, COOKIE = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT", "KF_PIPELINES_TOKEN", "KF_PIPELINES_COOKIE"
"""Environment variables: the first two are those of the SDK, which has none for a token or a cookie."""

POD_TOKEN = "KF_PIPELINES_SA_TOKEN_PATH"
POD_TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"
POD_ENDPOINT = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
"""Where a pod finds the API, and the token that Kubeflow mounts for it."""

_TIMEOUT = urllib3.Timeout(connect=10.0, read=30.0)
_ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
_REPEATED = (0, 401, 408, 429, 500, 502, 503, 504)
_ROUND_SECONDS = 10.0
_PATIENCE_SECONDS = 15 * 60.0


class PipelinesError(Dino4CellsError):
    """Kubeflow Pipelines refuses, with an HTTP status, or does not answer, which is status 0."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Pipelines:
    """An installation of Kubeflow Pipelines.

    Attributes:
        endpoint: URL of its API; `…/pipeline` below the address of a Kubeflow platform.
        token_file: file with a token, read again when the token has expired, or nothing: from the environment.
        namespace: of the run, where several users share the installation.
        ca_file: certificates of its authority, or nothing: those of the system.
    """

    endpoint: str
    token_file: str = ""
    namespace: str = ""
    ca_file: str = ""

    @classmethod
    def found(cls, endpoint: str = "", token_file: str = "", namespace: str = "", ca_file: str = "") -> Pipelines:
        """With what is not given taken from the environment, and in a pod from there.

        Raises:
            ConfigError: no endpoint, or a file that is not there.
        """
        in_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
        endpoint = endpoint or os.environ.get(ENDPOINT, "") or (POD_ENDPOINT if in_pod else "")
        if not endpoint:
            raise ConfigError(
                f"--endpoint: is not given; give the URL of Kubeflow Pipelines or set {ENDPOINT}, for example http://localhost:8080 after "
                "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80."
            )
        if "://" not in endpoint:
            raise ConfigError(f"--endpoint: '{endpoint}' is no URL; begin it with https:// or http://.")
        if holds_secret(endpoint):
            raise ConfigError(f"--endpoint: {endpoint} holds a password or a token; give the address alone, and {TOKEN} or --token-file.")
        for option, path in (("--token-file", token_file), ("--ca-file", ca_file)):
            if path and not Path(path).is_file():
                raise ConfigError(f"{option}: there is no file {path}.")
        if not token_file and not os.environ.get(TOKEN):
            mounted = os.environ.get(POD_TOKEN, POD_TOKEN_FILE)
            token_file = mounted if Path(mounted).is_file() else ""
        return cls(endpoint.rstrip("/"), token_file, namespace, ca_file)

    def token(self) -> str:
        """The token, or nothing."""
        text = Path(self.token_file).read_text(encoding="utf-8") if self.token_file else os.environ.get(TOKEN, "")
        return text.strip()

    def is_shared(self) -> bool:
        """Whether several users share the installation, each with a namespace.

        Raises:
            PipelinesError: it does not answer, or with something else.
        """
        headers = {"Accept": "application/json"}
        headers.update({"Authorization": f"Bearer {self.token()}"} if self.token() else {})
        headers.update({"Cookie": os.environ[COOKIE]} if os.environ.get(COOKIE) else {})
        url = f"{self.endpoint}/apis/v2beta1/healthz"
        with urllib3.PoolManager(ca_certs=self.ca_file or None) as pool:
            try:
                answer = pool.request("GET", url, headers=headers, timeout=_TIMEOUT, redirect=False, retries=False)
            except urllib3.exceptions.HTTPError as error:
                raise _silent(self.endpoint, error) from error
        if answer.status == 200:
            with contextlib.suppress(json.JSONDecodeError, UnicodeDecodeError, AttributeError):
                return bool(json.loads(answer.data).get("multi_user"))
        raise _refused(self.endpoint, answer.status)

    def client(self) -> Any:
        """The SDK's client."""
        import kfp

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            options = {"namespace": self.namespace} if self.namespace else {}
            return kfp.Client(
                host=self.endpoint,
                existing_token=self.token() or None,
                cookies=os.environ.get(COOKIE) or None,
                ssl_ca_cert=self.ca_file or None,
                **options,
            )


@dataclass(frozen=True)
class Run:
    """A run that was submitted: its identifier, and where the UI shows it."""

    identifier: str
    url: str


def submit(
    pipelines: Pipelines,
    parameters: Mapping[str, object],
    *,
    experiment: str = "dino4cells",
    name: str = "",
    caching: bool | None = None,
    account: str = "",
    root: str = "",
    compiled: Path = COMPILED,
) -> Run:
    """Start a run.

    Args:
        pipelines: where.
        parameters: of the pipeline.
        experiment: that the run belongs to; made where it is not there.
        name: of the run, or nothing: the pipeline's with the time.
        caching: whether steps whose inputs are unchanged are skipped; None: as compiled.
        account: service account of the steps, or nothing: the installation's.
        root: URL below which artifacts are written, or nothing: the installation's.
        compiled: the pipeline.

    Raises:
        PipelinesError: the installation refuses, or does not answer.
        ConfigError: it is shared and no namespace is given, or a parameter holds a secret.
    """
    for parameter, value in {**parameters, "pipeline root": root}.items():
        if holds_secret(str(value)):
            raise ConfigError(
                f"{parameter}: holds a password, a token or a signature, which everybody who sees the run could read; "
                "give the address without, and what opens the store in a secret (parameter secret)."
            )
    shared = pipelines.is_shared()
    if shared and not pipelines.namespace:
        raise ConfigError(f"--namespace: is not given, and several users share {pipelines.endpoint}; give your profile's namespace.")
    if not shared and pipelines.namespace:
        # Such an installation refuses a namespace in its requests.
        pipelines = Pipelines(pipelines.endpoint, pipelines.token_file, "", pipelines.ca_file)
    with _explained(pipelines.endpoint), contextlib.redirect_stdout(io.StringIO()):  # the SDK prints addresses of its own
        result = pipelines.client().create_run_from_pipeline_package(
            str(compiled),
            arguments=dict(parameters),
            run_name=name or f"dino4cells {datetime.now():%Y-%m-%d %H:%M:%S}",
            experiment_name=experiment,
            namespace=pipelines.namespace or None,
            enable_caching=caching,
            service_account=account or None,
            pipeline_root=root or None,
        )
    ui = os.environ.get(UI_ENDPOINT) or pipelines.endpoint
    return Run(result.run_id, f"{ui.rstrip('/')}/#/runs/details/{result.run_id}")


def follow(
    pipelines: Pipelines,
    run: Run,
    say: Callable[[str], None] = print,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Return when the run has succeeded; each change of the run and of its steps is said.

    The SDK's own waiting ends neither when a run is cancelled nor when an answer is lost.

    Raises:
        JobFailed: it did not succeed.
        PipelinesError: the installation refuses, or did not answer for too long.
    """
    client, seen, answered = pipelines.client(), "", clock()
    steps: dict[str, str] = {}
    while True:
        try:
            with _explained(pipelines.endpoint):
                found = client._run_api.run_service_get_run(run_id=run.identifier, _request_timeout=(10, 30))
        except PipelinesError as error:
            if error.status not in _REPEATED or clock() - answered > _PATIENCE_SECONDS:
                raise
            sleep(_ROUND_SECONDS)
            client = pipelines.client()  # the token may have been renewed
            continue
        answered, state = clock(), str(found.state or "PENDING")
        for step in (found.run_details.task_details if found.run_details else None) or ():
            if step.display_name and step.state and steps.get(step.display_name) != step.state:
                steps[step.display_name] = step.state
                say(f"{step.display_name}: {step.state.lower()}")
        if state != seen:
            seen = state
            say(f"run: {state.lower()}")
        if state == "SUCCEEDED":
            return
        if state in _ENDED:
            failed = [name for name, how in steps.items() if how == "FAILED"]
            where = f" in {', '.join(failed)}" if failed else ""
            words = f" ({' '.join(found.error.message.split()).rstrip('.')})" if found.error and found.error.message else ""
            raise JobFailed(f"run {run.identifier}: ended as {state.lower()}{where}{words}; the step's log is at {run.url}.")
        sleep(_ROUND_SECONDS)


@contextlib.contextmanager
def _explained(endpoint: str) -> Iterator[None]:
    """Turn what the SDK raises into one sentence."""
    import kfp_server_api

    try:
        yield
    except kfp_server_api.ApiException as error:
        if not error.status:
            raise _silent(endpoint, error) from error
        raise _refused(endpoint, int(error.status), error.body) from error
    except (urllib3.exceptions.HTTPError, TimeoutError) as error:
        raise _silent(endpoint, error) from error


def _silent(endpoint: str, error: Exception) -> PipelinesError:
    reason = str(error).rpartition(": ")[2][:100].rstrip(".") or type(error).__name__
    return PipelinesError(f"{endpoint}: Kubeflow Pipelines does not answer ({reason}); check the address, a port-forward, and the network.")


def _refused(endpoint: str, status: int, body: str | bytes | None = None) -> PipelinesError:
    """The sentence for an answer that is none."""
    words = _words(body)
    if status in (200, 301, 302, 303, 307, 308):
        sentence = (
            f"answers with a page to log in and not as Kubeflow Pipelines; give a token (--token-file, {TOKEN}) or the cookie of a browser "
            f"that is logged in ({COOKIE}), and end the endpoint with /pipeline"
        )
    elif status in (401, 403):
        sentence = (
            f"Kubeflow Pipelines does not let this account in ({status}{f': {words}' if words else ''}); "
            f"renew the token (--token-file, {TOKEN}), or ask for the right to the namespace"
        )
    elif status == 404:
        sentence = f"has no such thing (404{f': {words}' if words else ''}); behind a Kubeflow dashboard the endpoint ends with /pipeline"
    else:
        sentence = f"Kubeflow Pipelines refuses ({status}: {words or 'no reason given'}); see the log of ml-pipeline"
    return PipelinesError(f"{endpoint}: {sentence}.", status)


def _words(body: str | bytes | None) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
    with contextlib.suppress(json.JSONDecodeError, AttributeError):
        answer = json.loads(text)
        text = str(answer.get("message") or answer.get("error") or "")
    return "" if "<html" in text.lower() else " ".join(text.split())[:200].rstrip(".")
