# Sets up its own virtual environment; needs only Python >= 3.10.
#   make quickstart   train a small network on bundled photographs, print the table
#   make test         run the tests
#   make docs         build the documentation, with its gallery: build/docs/index.html
# Variables: PYTHON (interpreter), VENV (where to install), TORCH (the pair to install),
# PIP_FLAGS (such as an --extra-index-url that offers CPU builds of PyTorch).

PYTHON ?= python3
VENV ?= .venv
# Tested together; other pairs work as long as pip resolves both in one command.
TORCH ?= torch==2.14.1 torchvision==0.29.1
PIP_FLAGS ?=

RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready

.DEFAULT_GOAL := quickstart
.PHONY: setup quickstart test lint format docs clean

setup: $(READY)

# torch and torchvision first and together, so that their builds match. basicsr's sdist needs torch
# to build: without build isolation nothing is downloaded twice (see tools/basicsr_build).
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV) || { echo 'no venv module: on Debian and Ubuntu, apt install python3-venv'; exit 1; }
	$(RUN) -m pip install --upgrade pip 'setuptools>=70.1' wheel
	$(RUN) -m pip install $(PIP_FLAGS) $(TORCH)
	PYTHONPATH=$(CURDIR)/tools/basicsr_build $(RUN) -m pip install --no-build-isolation --no-deps basicsr==1.4.2
	$(RUN) -m pip install $(PIP_FLAGS) $(TORCH) -e '.[all]'
	$(RUN) -c 'import cv2' || { echo 'OpenCV lacks system libraries: on Debian and Ubuntu, apt install libgl1 libglib2.0-0'; exit 1; }
	touch $(READY)

quickstart: $(READY)
	$(RUN) vheatir/train.py -opt options/quickstart.yml
	$(RUN) vheatir/test.py -opt options/quickstart.yml

# One process per core, so one thread per process.
test: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n auto --dist loadfile

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(DOCS_READY): $(READY)
	$(RUN) -m pip install $(PIP_FLAGS) $(TORCH) -e '.[docs]'
	touch $(DOCS_READY)

# Once installed, nothing is downloaded. Any warning is an error. The gallery runs again where an
# example changed.
docs: $(DOCS_READY)
	$(RUN) -m sphinx -W --keep-going -b html -d build/doctrees docs build/docs

clean:
	rm -rf docs/cards docs/gallery
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache
