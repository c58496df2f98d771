"""Runs in a pod: reads a model artifact whole against its manifest, and prints what a test wants to know of it as one line of JSON."""

import json
import sys

from dino4cells.artifacts import open_artifact
from dino4cells.models.artifact import KIND, LOG, load_card

artifact = open_artifact(sys.argv[1], KIND)
for name in artifact.names:
    artifact.read_bytes(name)
training = load_card(artifact.url).training
records = [json.loads(line) for line in artifact.read_bytes(LOG).decode().splitlines()]
found = {
    "files": artifact.names,
    "processes": training.processes,
    "device": training.device,
    "images": training.images,
    "samples_seen": training.samples_seen,
    "log": [record["samples"] for record in records],
}
print(json.dumps(found))
