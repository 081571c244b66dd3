# Everything a contributor needs: make demo | test | check | test-modern | soak | clean.
PYTHON ?= python3
# An installed torch that satisfies pyproject.toml is kept; name another build here if wanted.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
MODERN := .venv-modern

# How long make soak trains, in minutes.
MINUTES ?= 10

.PHONY: demo test check test-modern soak clean

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

demo: $(VENV)/.installed
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-modern: $(MODERN)/.installed
	$(MODERN)/bin/python -m pytest -m "not slow"

soak: $(VENV)/.installed
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/loss/test_loss_fuzz.py tests/data/test_dataset_fuzz.py \
		tests/model/test_settings_fuzz.py
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

clean:
	rm -rf $(VENV) $(MODERN) build dist *.egg-info
