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

.PHONY: demo test test-gpu lint quality pipeline clean
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
	@$(BIN)/python -m pytest -m 'not gpu'

test-gpu: $(READY)
	@$(BIN)/python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || { echo "SKIPPED: no CUDA device on this machine; the GPU tests did not run"; exit 1; }
	@$(BIN)/python -m pytest -m gpu

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

quality: $(READY)
	@$(BIN)/python benchmarks/quality.py $(if $(DATA),--data '$(DATA)')

pipeline: $(READY)
	@$(BIN)/dino4cells pipeline compile pipelines/dino4cells.yaml

clean:
	rm -rf $(VENV) runs build dist *.egg-info
