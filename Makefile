# Everything a contributor needs:
# make demo | test | check | test-modern | test-triton | soak | recbole-suite | clean.
PYTHON ?= python3
# An installed torch that satisfies pyproject.toml is kept; name another build here if wanted.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
MODERN := .venv-modern

# How long make soak trains, in minutes.
MINUTES ?= 10

.PHONY: demo test check test-modern test-triton soak recbole-suite clean

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

$(MODERN)/.installed: pyproject.toml requirements-modern.txt
	test -x $(MODERN)/bin/python || $(PYTHON) -m venv $(MODERN)
	$(MODERN)/bin/python -m pip install --quiet --upgrade pip
	$(MODERN)/bin/python -m pip install --quiet "$(TORCH)"
	$(MODERN)/bin/python -m pip install --quiet --requirement requirements-modern.txt
	$(MODERN)/bin/python -m pip install --quiet --no-deps "recbole==1.2.1" --editable .
	touch $@

$(VENV)/.installed-triton: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable ".[triton]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-modern: $(MODERN)/.installed
	$(MODERN)/bin/python -m pytest -m "not slow"

# The GPU kernels, in Triton's interpreter; with TRITON_INTERPRET=0 compiled, on a GPU. Triton takes 1 GB.
test-triton: $(VENV)/.installed-triton
	$(BIN)/python -m pytest tests/loss/test_triton.py

# RecBole's own tests with and without the plugin: make recbole-suite RECBOLE=path/to/a/checkout
recbole-suite: $(VENV)/.installed
	$(BIN)/python benchmarks/recbole_suite.py --checkout "$(RECBOLE)"

soak: $(VENV)/.installed
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/loss/test_loss_fuzz.py tests/data/test_dataset_fuzz.py \
		tests/model/test_settings_fuzz.py
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

clean:
	rm -rf $(VENV) $(MODERN) build dist *.egg-info
