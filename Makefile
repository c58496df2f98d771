# make demo                               the pipeline end to end on simulated cells
# make demo DATA=my/cells GROUP=plate     the same on your own (a directory or URL that holds a metadata.csv)
# make test                               all tests that need neither a GPU nor a cluster

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

DATA ?=
GROUP ?= $(if $(DATA),,plate)
LABEL ?=
EPOCHS ?= 4
OUTPUT ?= runs

.PHONY: demo test test-gpu lint quality reference pipeline clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "dino4cells needs Python 3.10 or newer; set PYTHON=python3.x"; exit 2; }
	@echo "Setting up $(VENV) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[kubeflow,report,dev]'
	@touch $@

demo: $(READY)
	@$(BIN)/dino4cells run --processes 2 --epochs $(EPOCHS) --data '$(DATA)' --group '$(GROUP)' --label '$(LABEL)' --output '$(OUTPUT)'

test: $(READY)
	@$(BIN)/python -m pytest -m 'not gpu and not image'

test-gpu: $(READY)
	@$(BIN)/python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "SKIPPED: no CUDA device on this machine; the GPU tests did not run"; exit 1; }
	@$(BIN)/python -m pytest -m gpu

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

# The image of the pipeline's steps and of the jobs' pods. BASE, IMAGE, BUILD_ARGS and CONTAINER may be given.
CONTAINER ?= $(if $(shell command -v docker),docker,podman)
BASE ?= python:3.11-slim-bookworm
IMAGE ?= $(shell sed -n 's/^IMAGE = "\(.*\)"/\1/p' components/image.py)

image:
	@$(CONTAINER) build --file docker/Dockerfile --build-arg BASE=$(BASE) --tag $(IMAGE) $(BUILD_ARGS) .

image-test: $(READY)
	@$(CONTAINER) image inspect $(IMAGE) >/dev/null 2>&1 || { echo "SKIPPED: there is no image $(IMAGE); run make image first"; exit 1; }
	@CONTAINER='$(CONTAINER)' IMAGE='$(IMAGE)' $(BIN)/python -m pytest -m image

# The jobs of manifests/, from the settings beside them.
MANIFEST = $(BIN)/dino4cells job render --name dino4cells-train --settings manifests/base/settings.yaml
manifests: $(READY)
	@$(MANIFEST) --to manifests/base/pytorchjob.yaml
	@for overlay in cpu gpu; do \
	  $(MANIFEST) --settings manifests/overlays/$$overlay/settings.yaml --to manifests/overlays/$$overlay/pytorchjob.yaml || exit; done

# The versions that the image is built with are those that the tests run on.
lock: $(READY)
	@{ echo '# The versions that the tests ran on; `make lock` writes this file anew.'; $(BIN)/pip freeze --exclude-editable; } > docker/constraints.txt

quality: $(READY)
	@$(BIN)/python benchmarks/quality.py $(if $(DATA),--data '$(DATA)')

reference: $(READY)
	@$(BIN)/dino4cells config --reference > docs/configuration.md.new && mv docs/configuration.md.new docs/configuration.md

pipeline: $(READY)
	@$(BIN)/dino4cells pipeline compile pipelines/dino4cells.yaml

clean:
	rm -rf $(VENV) runs build dist *.egg-info
