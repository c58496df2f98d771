"""The rules of Kubernetes' Pod Security Standards, level *restricted* (which contains *baseline*), of Kubernetes 1.34, for pod templates.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Spec = dict[str, Any]

_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SECCOMP = ("RuntimeDefault", "Localhost")
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip


def violations(template: Spec) -> list[str]:
    """What a namespace that enforces *restricted* would refuse a pod template for; a field and a container each."""
    return list(_of_pod(template)) + [
        f"{container['name']}: {words}"
        for kind in _CONTAINERS
        for container in template["spec"].get(kind) or ()
        for words in _of_container(container, template["spec"].get("securityContext") or {})
    ]


def _of_pod(template: Spec) -> Iterator[str]:
    spec: Spec = template["spec"]
    context = spec.get("securityContext") or {}
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes") or ():
        yield from (f"volume {volume['name']}: {kind}" for kind in volume.keys() - {"name"} - _VOLUMES)
    yield from (f"sysctl {item['name']}" for item in context.get("sysctls") or () if item["name"] not in _SYSCTLS)
    yield from _of_both(context)
    for key, profile in (template.get("metadata", {}).get("annotations") or {}).items():
        if key.startswith("container.apparmor.security.beta.kubernetes.io/") and profile == "unconfined":
            yield "appArmor unconfined"


def _of_container(container: Spec, pod: Spec) -> Iterator[str]:
    context = container.get("securityContext") or {}
    yield from _of_both(context)
    if context.get("privileged"):
        yield "privileged"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "capabilities are not dropped"
    if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if (context["runAsNonRoot"] if "runAsNonRoot" in context else pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    if (context.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type") not in _SECCOMP:
        yield "seccompProfile"
    if any(port.get("hostPort") for port in container.get("ports") or ()):
        yield "hostPort"
    probes = [container.get(name) or {} for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks = [(container.get("lifecycle") or {}).get(name) or {} for name in ("postStart", "preStop")]
    if any((action.get(kind) or {}).get("host") for action in (*probes, *hooks) for kind in ("httpGet", "tcpSocket")):
        yield "host of a probe"


def _of_both(context: Spec) -> Iterator[str]:
    """What pods and containers may both say."""
    if context.get("runAsUser") == 0:
        yield "runAsUser 0"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"
    if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
        yield "appArmor unconfined"
    selinux = context.get("seLinuxOptions") or {}
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield "seLinuxOptions"
    if "seccompProfile" in context and context["seccompProfile"].get("type") not in _SECCOMP:
        yield "seccompProfile"
