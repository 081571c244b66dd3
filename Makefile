# Everything a contributor needs; make help lists the targets.
# Each makes its virtual environment first. Choose the Python of a new one: make demo PYTHON=python3.13
PYTHON ?= python3
# An installed torch that satisfies pyproject.toml is kept; name another build here if wanted.
TORCH ?= torch==2.13.0
# With --system-site-packages the environment sees the system's torch (Debian's python3-torch): add TORCH=torch.
VENV_OPTIONS ?=
VENV := .venv
BIN := $(VENV)/bin
MODERN := .venv-modern
# RecBole asks for ray <= 2.6.3, which exists up to Python 3.11: from 3.12 on it is installed without (pyproject.toml).
RECBOLE_RELEASE := recbole==1.2.1

# How long make soak trains, in minutes.
MINUTES ?= 10

# One worker per core; tests of several processes one after another.
PARALLEL ?= -n auto --dist loadgroup

.PHONY: help demo test test-quick nightly check docs docs-serve reference test-modern test-triton soak recbole-suite clean

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

# The environment that is there is kept, unless the command line names another Python.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
INSTALLED := $(VENV)/.installed-$(VERSION)
ifneq ($(origin PYTHON),command line)
INSTALLED := $(firstword $(wildcard $(VENV)/.installed-*) $(INSTALLED))
endif

# $(call new_environment,FOLDER): a sound environment of this Python in FOLDER; one that lacks pip, or is of
# another Python, is made anew.
define new_environment
@test -n "$(VERSION)" || { echo "PYTHON must name a Python from 3.10 on, got $(PYTHON), which does not run" >&2; exit 2; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	{ echo "PYTHON must name a Python from 3.10 on, got $(PYTHON), which is $(VERSION)" >&2; exit 2; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) lacks its venv module. On Debian and Ubuntu: apt install python$(VERSION)-venv" >&2; exit 2; }
@test "$$($(1)/bin/python -c 'import pip, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$(VERSION)" || \
	{ rm -rf $(1) && $(PYTHON) -m venv $(VENV_OPTIONS) $(1); }
$(1)/bin/python -m pip install --quiet --upgrade pip
$(1)/bin/python -m pip install --quiet "$(TORCH)"
endef

$(INSTALLED): pyproject.toml
	$(call new_environment,$(VENV))
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 12))' || \
		$(BIN)/python -m pip install --quiet --no-deps "$(RECBOLE_RELEASE)"
	touch $@

# What Python 3.12 and later get, on this Python: numpy 2, no ray.
$(MODERN)/.installed: pyproject.toml .ci/modern.py
	$(call new_environment,$(MODERN))
	$(MODERN)/bin/python -m pip install --quiet packaging
	$(MODERN)/bin/python .ci/modern.py > $(MODERN)/requirements.txt
	$(MODERN)/bin/python -m pip install --quiet --requirement $(MODERN)/requirements.txt
	$(MODERN)/bin/python -m pip install --quiet --no-deps "$(RECBOLE_RELEASE)" --editable .
	touch $@

$(VENV)/.installed-docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	touch $@

$(VENV)/.installed-triton: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --editable ".[triton]"
	touch $@

demo: $(INSTALLED)  ## train and test SASRecSCE on ml-100k
	$(BIN)/python examples/demo.py

test: $(INSTALLED)  ## all tests
	$(BIN)/python -m pytest $(PARALLEL) --durations=20

# With the tests that take too long for each run: whole examples, runs that are killed.
nightly: $(INSTALLED)  ## all tests, and those that take long
	$(BIN)/python -m pytest $(PARALLEL) --durations=20 -m "nightly or not nightly"

test-quick: $(INSTALLED)  ## the tests that train nothing
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not nightly"

check: $(INSTALLED)  ## ruff, mypy, spelling and prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest tests/docs/test_prose.py

docs: $(VENV)/.installed-docs  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --clean

docs-serve: $(VENV)/.installed-docs  ## the documentation site, while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

# Tests compare these pages with the code.
reference: $(INSTALLED)  ## the pages of the reference that are rendered from the code
	$(BIN)/python -m recbole_sce.settings yaml > properties/model/SCE.yaml
	$(BIN)/python -m recbole_sce.settings markdown > docs/reference/settings.md
	$(BIN)/python -m recbole_sce.model.table > docs/reference/models.md
	$(BIN)/python docs/_site/command_line.py > docs/reference/command-line.md
	$(BIN)/python docs/_site/patches.py

test-modern: $(MODERN)/.installed  ## the quick tests with the packages of Python 3.12 and later
	$(MODERN)/bin/python -m pytest $(PARALLEL) -m "not slow and not nightly"

# The GPU kernels, in Triton's interpreter; with TRITON_INTERPRET=0 compiled, on a GPU. Triton takes 1 GB.
test-triton: $(VENV)/.installed-triton  ## the GPU kernels
	$(BIN)/python -m pytest $(PARALLEL) tests/loss/test_triton.py

# RecBole's own tests with and without the plugin: make recbole-suite RECBOLE=path/to/a/checkout
recbole-suite: $(INSTALLED)  ## RecBole's own tests, with and without the plugin
	$(BIN)/python benchmarks/recbole_suite.py --checkout "$(RECBOLE)"

soak: $(INSTALLED)  ## many inputs, and long training
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/loss/test_loss_fuzz.py tests/data/test_dataset_fuzz.py \
		tests/model/test_settings_fuzz.py
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

clean:  ## remove environments and builds
	rm -rf $(VENV) $(MODERN) build dist site *.egg-info
