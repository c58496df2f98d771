"""Environment variables by which the pods of the pipeline's steps and of their jobs learn who they are, what opens their object store, and
where their launcher gives a sign of life.

None of them is an input of a step: what changes with every run would defeat caching.
"""

POD, POD_UID, NAMESPACE, RUN = "DINO4CELLS_POD", "DINO4CELLS_POD_UID", "DINO4CELLS_NAMESPACE", "DINO4CELLS_RUN"
FIELDS = {
    POD: "metadata.name",
    POD_UID: "metadata.uid",
    NAMESPACE: "metadata.namespace",
    RUN: "metadata.labels['pipeline/runid']",
}
"""Fields of the pod that the variables hold."""

LAUNCHER_SIGN = "DINO4CELLS_LAUNCHER_SIGN"
"""URL of the launcher's sign of life, in the pods of a job; without it the job does not look for one."""

ENDPOINT, REGION = "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"
ACCESS, SECRET = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"

SECRET_KEYS = {"accesskey": ACCESS, "secretkey": SECRET, "endpoint": ENDPOINT}
"""Keys of the secret that the parameter `secret` names, and the variables in which the steps get them."""
