# make demo                               the pipeline end to end on simulated cells
# make demo DATA=my/cells GROUP=plate     the same on your own (a directory or URL that holds a metadata.csv)
# make test                               all tests that need neither a GPU nor a cluster
# make kind-up e2e kind-down              a cluster on this machine, the tests that need one, and its end (docs/kind.md)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

comma := ,

DATA ?=
GROUP ?= $(if $(DATA),,plate)
LABEL ?=
EPOCHS ?= 4
OUTPUT ?= runs

.PHONY: soak demo test fuzz test-gpu lint audit image image-test kind-up kind-down e2e manifests lock bench bench-full bench-gpu quality reference pipeline clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "dino4cells needs Python 3.10 or newer; set PYTHON=python3.x"; exit 2; }
	@echo "Setting up $(VENV) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[kubeflow,report,dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/dino4cells run --processes 2 --epochs $(EPOCHS) --data '$(DATA)' --group '$(GROUP)' --label '$(LABEL)' --output '$(OUTPUT)'

# Files in the order of their names: the long ones, of faults/ and integration/, begin first, and no process waits at the end for the other.
test: $(READY)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m 'not gpu and not image and not e2e'

test-gpu: $(READY)
	@$(BIN)/python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "SKIPPED: no CUDA device on this machine; the GPU tests did not run"; exit 1; }
	@$(BIN)/python -m pytest -m gpu

# Damaged and lying files through every reader; SEED gives the same inputs again (tests/faults/fuzz.py).
fuzz: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults.fuzz --inputs $(or $(INPUTS),100000) $(if $(SEED),--seed $(SEED))

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml dino4cells components pipelines

# Known vulnerabilities of the packages in the image, by PyPI's and OSV's lists: the network is needed. A package that a list does not know
# is a failure too (--strict). An exception stands here with its reason
# (--ignore-vuln GHSA-…); there is none.
PIP_AUDIT = $(BIN)/uvx --quiet pip-audit@2.10.1 --strict --require-hashes --disable-pip --requirement docker/requirements.txt
audit: $(READY)
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml dino4cells components pipelines
	@$(PIP_AUDIT) --vulnerability-service pypi
	@$(PIP_AUDIT) --vulnerability-service osv

# The image of the pipeline's steps and of the jobs' pods. BASE, IMAGE, BUILD_ARGS (of docker/Dockerfile) and CONTAINER may be given.
CONTAINER ?= $(if $(shell command -v docker),docker,podman)
BASE ?= python:3.11-slim-bookworm
IMAGE ?= $(shell sed -n 's/^IMAGE = "\(.*\)"/\1/p' components/image.py)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git describe --always --dirty --abbrev=40 --match= 2>/dev/null)

image:
	@$(CONTAINER) build --file docker/Dockerfile --build-arg BASE=$(BASE) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
	  --tag $(IMAGE) $(BUILD_ARGS) .

image-test: $(READY)
	@$(CONTAINER) image inspect $(IMAGE) >/dev/null 2>&1 || { echo "SKIPPED: there is no image $(IMAGE); run make image first"; exit 1; }
	@CONTAINER='$(CONTAINER)' IMAGE='$(IMAGE)' $(BIN)/python -m pytest -m image

# A cluster on this machine, and the tests of a cluster: of that one, or of the one that KUBECONFIG names. BUILT=1: docker has the image already.
KIND_KUBECONFIG = $(CURDIR)/.kind/kubeconfig
kind-up:
	@tests/e2e/kind.sh check
	@$(if $(BUILT),,$(MAKE) --no-print-directory image CONTAINER=docker)
	@IMAGE='$(IMAGE)' tests/e2e/kind.sh up

kind-down:
	@tests/e2e/kind.sh down

e2e: export KUBECONFIG := $(or $(KUBECONFIG),$(wildcard $(KIND_KUBECONFIG)))
e2e: export E2E_IMAGE := $(or $(E2E_IMAGE),$(IMAGE))
e2e: $(READY)
	@test -n "$$KUBECONFIG" || { echo "SKIPPED: there is no cluster; set KUBECONFIG, or run make kind-up first"; exit 1; }
	@command -v kubectl >/dev/null || { echo "SKIPPED: kubectl is not installed"; exit 1; }
	@kubectl api-resources --api-group=kubeflow.org --output=name --request-timeout=30s | grep -q '^pytorchjobs' \
	  || { echo "SKIPPED: the cluster of $$KUBECONFIG does not answer, or has no Training Operator (v1)"; exit 1; }
	@$(BIN)/python -m pytest -m e2e

# The jobs of manifests/, from the settings beside them.
MANIFEST = $(BIN)/dino4cells job render --name dino4cells-train --settings manifests/base/settings.yaml
manifests: $(READY)
	@$(MANIFEST) --to manifests/base/pytorchjob.yaml
	@for overlay in cpu gpu; do \
	  $(MANIFEST) --settings manifests/overlays/$$overlay/settings.yaml --to manifests/overlays/$$overlay/pytorchjob.yaml || exit; done

# The versions that the image is built with are those that the tests run on; of its own packages the lock says every file by its hash, and what
# builds this one (setuptools) is among them.
EXTRAS = $(shell sed -n 's/^ARG EXTRAS=//p' docker/Dockerfile)
lock: $(READY)
	@{ echo '# The versions that the tests ran on; `make lock` writes this file anew.'; $(BIN)/pip freeze --exclude-editable; } > docker/constraints.txt
	@{ echo '# The packages of the image, each by the hashes of its files; `make lock` writes this file anew.'; \
	  echo 'setuptools>=77' | $(BIN)/uv pip compile pyproject.toml - --extra $(subst $(comma), --extra ,$(EXTRAS)) --constraint docker/constraints.txt \
	  --generate-hashes --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet; } > docker/requirements.txt

# Speed against the plain reference of benchmarks/reference, with sweeps (bench-full), and on a GPU (bench-gpu, without a reference).
# RECORD=1 writes benchmarks/results.json and RESULTS.md.
bench bench-full: $(READY)
	@$(BIN)/python -m benchmarks $(if $(filter bench-full,$@),--full) $(if $(RECORD),--record) $(if $(ONLY),--only $(ONLY))

bench-gpu: $(READY)
	@$(BIN)/python -m benchmarks.gpu $(if $(RECORD),--record)

# The loader for ten minutes: memory, open files and threads must not grow. SECONDS may be given.
soak: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.load soak $(if $(SECONDS),--seconds $(SECONDS))

quality: $(READY)
	@$(BIN)/python benchmarks/quality.py $(if $(DATA),--data '$(DATA)')

reference: $(READY)
	@$(BIN)/dino4cells config --reference > docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md

pipeline: $(READY)
	@$(BIN)/dino4cells pipeline compile pipelines/dino4cells.yaml

clean:
	rm -rf $(VENV) runs build dist *.egg-info
