"""Is there what the settings of the job name?"""

from __future__ import annotations

from dataclasses import replace

from dino4cells.cluster.doctor.rows import Row, State
from dino4cells.cluster.doctor.visit import Visit
from dino4cells.cluster.job import Authority, ConfigFile, SecretVariable
from dino4cells.cluster.validation import check_job
from dino4cells.errors import ConfigError

_PULL_TYPES = ("kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg")


def check_settings(visit: Visit) -> Row:
    """The settings are those of a job that can be."""
    job = visit.settings.job("train", "dino4cells.training", ())
    try:
        check_job(replace(job, image=job.image or "none"))  # that none is given is said by itself
    except ConfigError as error:
        return Row("settings", State.MISSING, str(error).rstrip("."), "correct the settings")
    pods, processes = ("s" if job.nodes > 1 else ""), ("es" if job.processes_per_node > 1 else "")
    return Row("settings", State.OK, f"{job.nodes} pod{pods} with {job.processes_per_node} process{processes} each")


def check_image(visit: Visit) -> Row:
    """An image is given, and it stays the same."""
    what, image = "image", visit.settings.image
    if not image:
        return Row(what, State.MISSING, "none is given", "give --image, or image: in the settings")
    if "@sha256:" in image:
        return Row(what, State.OK, image)
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        finding = f"{image} has no tag, which means latest" if not tag else f"{image} is another image every time one is pushed"
        return Row(what, State.WARNING, finding, "name a tag that stays, so that restarted pods run the same code")
    return Row(what, State.OK, f"{image} (that nodes can pull it shows when a pod starts)")


def check_secrets(visit: Visit) -> list[Row]:
    """The secrets have the keys that the variables need; values are not looked at."""
    by_name: dict[str, list[SecretVariable]] = {}
    for variable in visit.settings.secrets:
        by_name.setdefault(variable.secret, []).append(variable)
    if not by_name:
        named = "AWS_ACCESS_KEY_ID" in visit.settings.environment
        state = State.OK if named or not visit.output.startswith(("s3://", "minio://")) else State.WARNING
        remedy = "" if state is State.OK else "name one, unless the service account of the pods gives access (IRSA, workload identity)"
        return [Row("secrets", state, "the settings name none", remedy)]
    return [_secret(visit, name, variables) for name, variables in by_name.items()]


def _secret(visit: Visit, name: str, variables: list[SecretVariable]) -> Row:
    what, wanted = f"secret {name}", [variable.key for variable in variables if not variable.optional]
    found = visit.named("secrets", name)
    if found is None:
        if not wanted:
            return Row(what, State.OK, "is not there, and every key of it is optional")
        keys = " ".join(f"--from-literal={key}=…" for key in dict.fromkeys(variable.key for variable in variables))
        return Row(what, State.MISSING, "is not there", f"kubectl create secret generic {name} -n {visit.namespace} {keys}")
    there = set(found.get("data") or {})
    lacking = [key for key in wanted if key not in there]
    if lacking:
        return Row(what, State.MISSING, f"has no key {', '.join(lacking)}", f"add it, or name one of {', '.join(sorted(there)) or 'none'}")
    return Row(what, State.OK, f"has the keys {', '.join(key for key in dict.fromkeys(v.key for v in variables) if key in there)}")


def check_pull_secrets(visit: Visit) -> list[Row]:
    """The secrets that the image is pulled with."""
    rows = []
    for name in visit.settings.placement.image_pull_secrets:
        what, found = f"pull secret {name}", visit.named("secrets", name)
        if found is None:
            make = f"kubectl create secret docker-registry {name} -n {visit.namespace} --docker-server=… --docker-username=…"
            rows.append(Row(what, State.MISSING, "is not there", make))
        elif found.get("type") not in _PULL_TYPES:
            rows.append(Row(what, State.MISSING, f"is of type {found.get('type')}", f"it must be of type {_PULL_TYPES[0]}"))
        else:
            rows.append(Row(what, State.OK, "is there"))
    return rows


def check_config_map(visit: Visit) -> Row:
    """The configuration that the pods read."""
    config = visit.settings.config or ConfigFile("")
    what, found = f"config map {config.config_map}", visit.named("configmaps", config.config_map)
    if found is None:
        make = f"kubectl create configmap {config.config_map} -n {visit.namespace} --from-file={config.file}"
        return Row(what, State.MISSING, "is not there", make)
    if config.file not in (found.get("data") or {}):
        return Row(what, State.MISSING, f"has no {config.file}", f"add it, or name one of {', '.join(found.get('data') or ()) or 'none'}")
    return Row(what, State.OK, f"has {config.file}")


def check_authority(visit: Visit) -> Row:
    """The certificates by which the pods trust their store."""
    authority = visit.settings.authority or Authority()
    kind, option = ("secret", "secret generic") if authority.secret else ("config map", "configmap")
    name = authority.secret or authority.config_map
    what, found = f"{kind} {name}", visit.named("secrets" if authority.secret else "configmaps", name)
    if found is None:
        make = f"kubectl create {option} {name} -n {visit.namespace} --from-file={authority.file}"
        return Row(what, State.MISSING, "is not there", make)
    if authority.file not in (found.get("data") or {}):
        return Row(what, State.MISSING, f"has no {authority.file}", "add it, or correct authority.file")
    return Row(what, State.OK, f"has {authority.file}")


def check_service_account(visit: Visit) -> Row:
    """The service account of the pods."""
    name = visit.settings.placement.service_account or ""
    if visit.named("serviceaccounts", name) is None:
        return Row(f"service account {name}", State.MISSING, "is not there", f"kubectl create serviceaccount {name} -n {visit.namespace}")
    return Row(f"service account {name}", State.OK, "is there")


def check_priority(visit: Visit) -> Row:
    """The priority class of the pods."""
    name = visit.settings.placement.priority_class or ""
    what = f"priority class {name}"
    if visit.get(f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}", "priorityclasses.scheduling.k8s.io") is None:
        return Row(what, State.MISSING, "is not there", "see kubectl get priorityclasses, or leave placement.priority_class out")
    return Row(what, State.OK, "is there")


def check_queue(visit: Visit) -> Row:
    """The queue that admits the job."""
    name = visit.settings.placement.queue or ""
    what, group = f"queue {name}", visit.get("/apis/kueue.x-k8s.io", "kueue.x-k8s.io")
    if group is None:
        return Row(
            what, State.MISSING, "the cluster has no Kueue: the job would stay suspended", "install Kueue, or leave placement.queue out"
        )
    version = (group.get("preferredVersion") or {}).get("version", "v1beta1")
    queue = visit.named("localqueues", name, f"kueue.x-k8s.io/{version}")
    if queue is None:
        return Row(what, State.MISSING, "the namespace has no such LocalQueue", f"see kubectl get localqueues -n {visit.namespace}")
    conditions = (queue.get("status") or {}).get("conditions") or ()
    for condition in conditions:
        if condition.get("type") == "Active" and condition.get("status") == "False":
            finding = f"is not active ({condition.get('message', '')})"
            return Row(what, State.WARNING, finding, "ask whoever looks after its ClusterQueue")
    return Row(what, State.OK, f"feeds {queue['spec'].get('clusterQueue', 'no cluster queue')}")
