# The two commands of the README, the checks and the documentation. All share one environment, .venv; a stamp in it tells what it holds.
PYTHON ?= python3
# One more than there are cores: a third of the time, tests wait for processes that they started.
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))

VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled when first imported, not all at installation: most never are. So the cache must not be off.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: demo test check docs links clean

demo: $(VENV)/demo.stamp
	$(BIN)/strop demo

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q -n $(WORKERS)

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# Material for MkDocs speaks of MkDocs 2, which pyproject.toml keeps out.
docs: $(VENV)/test.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@echo 'site/index.html'

links: docs
	$(BIN)/python docs/hooks/links.py site

clean:
	rm -rf $(VENV) site

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing strop with ONNX Runtime and OpenVINO into $(VENV) (0.8 GB) ...'
	@$(INSTALL) --editable '.[openvino]'
	@touch $@

$(VENV)/test.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing strop and what its tests need into $(VENV) (3 GB) ...'
	@$(INSTALL) --editable '.[openvino,torch,trees,tensorflow,images,docs,dev]'
	@touch $(VENV)/demo.stamp $@
