# Two commands do all the set-up: `make profile` runs the main job, `make test` passes the tests.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: profile test test-all lint types layers docs claims benchmarks peers clean help

help:           ## list the targets
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# torch goes first and by its exact version, so that nothing else chooses a build of it
$(VENV)/.core: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable '.[dev,all]'
	touch $@

profile: $(VENV)/.core  ## the main job: how few dimensions do the digits need?
	$(BIN)/lodim profile digits --budget 45s --html digits-profile.html --json digits-profile.json

test: $(VENV)/.test     ## the fast tests
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal

test-all: $(VENV)/.dev  ## every test that this machine can run, slow ones too
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: $(VENV)/.dev      ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev     ## static types
	$(BIN)/mypy

layers: $(VENV)/.dev    ## imports point downwards only
	$(BIN)/lint-imports

docs: $(VENV)/.dev      ## the documentation, examples included, warnings as errors
	$(BIN)/sphinx-build -W --keep-going -q -j auto -b html docs docs/_build/html

claims: $(VENV)/.dev    ## run every claim at laptop scale and record what came out
	$(BIN)/lodim claims run --scale laptop

benchmarks: $(VENV)/.dev ## every benchmark against its peers
	set -e; for file in benchmarks/[a-z]*.py; do case $$file in */peers_*) ;; *) \
	  echo "== $$file"; OMP_NUM_THREADS=1 $(BIN)/python $$file ;; esac; done

# The peers of benchmarks/dimension.py, each in an environment of its own: DADApy needs numpy < 2, torchid a newer Python
PYTHON_TORCHID ?= python3.13
define PEER
@if command -v $(2) >/dev/null; then set -ex; \
  test -x .env-peers/$(1)/bin/python || $(2) -m venv .env-peers/$(1); \
  .env-peers/$(1)/bin/python -m pip --disable-pip-version-check install --quiet $(3); \
else echo "$(1) is left out: it needs $(2), which is not here"; fi
endef
TORCH := $(shell grep '^torch==' constraints.txt)
peers:          ## environments with the libraries that we are measured against
	$(call PEER,scikit-dimension,$(PYTHON),$(TORCH) scikit-dimension==0.5.0 faiss-cpu==1.15.1)
	$(call PEER,dadapy,$(PYTHON),dadapy==0.3.4 'numpy<2')
	$(call PEER,torchid,$(PYTHON_TORCHID),$(TORCH) torchid==0.5.1 scikit-learn faiss-cpu==1.15.1)

clean:          ## remove what the other targets made
	rm -rf $(VENV) .env-peers docs/_build digits-profile.html digits-profile.json
