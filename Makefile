# Two commands do everything from nothing:
#   make pretrain     set up, build shards, train, export        (TEXT=… ENCODER=… NAME=… RECIPE=… BUILD=… ARGS=… for your own)
#   make test         set up and run the tests of a save (make test-all: what CI runs)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools
FLOORS := .venv-floors
export PATH := $(abspath $(BIN)):$(PATH)

# Your own text and encoder:  make pretrain TEXT=wiki.jsonl.gz ENCODER=bert-base-cased
# The recipe is then chosen by the machine's GPUs and the encoder's size; the first line of output says which.
TEXT ?=
ENCODER ?=
NAME ?= $(if $(TEXT),$(firstword $(subst ., ,$(notdir $(TEXT:/=)))),debug)
RECIPE ?= $(if $(ENCODER),auto,debug)
TOKENIZER ?= $(if $(ENCODER),$(ENCODER),debug)
# Of shards, such as BUILD="--gold-entities --min-entities 3" for the entities of the embedded corpus.
BUILD ?=
ARGS ?=
FLOOR_TORCH ?=
GPU_ARGS ?=
LOCK ?=
# Hundreds of processes start: with compiled modules each takes a tenth of a second less.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m pytest
SHARDS := data/$(NAME)

.PHONY: install pretrain test test-all test-slow test-exact test-floors faults kernels gpu gpu-pack check format lock outdated audit sbom clean

pretrain: $(VENV)/.installed $(if $(TEXT),,data/sample.jsonl)
	spe shards build $(if $(TEXT),$(TEXT),data/sample.jsonl) --out $(SHARDS) --tokenizer $(TOKENIZER) \
		$(BUILD)
	python launcher/pretrain.py --config $(RECIPE) --run.name $(NAME) --data.shards $(SHARDS) \
		$(if $(ENCODER),--encoder.name-or-path $(ENCODER)) $(ARGS)
	spe export runs/$(NAME)

# Without Ray, Slurm and whole commands: what to run at every save.
test: $(VENV)/.installed-dev
	$(PYTEST) -n 2 --dist loadfile -m "not ray and not slurm" tests/unit tests/paper tests/distributed

# All but what is marked slow. Two processes: much of the time is spent starting Ray and ranks. In the order of folders,
# so that the last files are short ones; else those of one long test would be, and a process would wait for the other.
test-all: $(VENV)/.installed-dev
	$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder

# 50 random stop points at every stage and precision; then every planted fault must turn a test red.
test-exact: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 python -m pytest tests/exactness --exact --slow --exact-report docs/data
	OMP_NUM_THREADS=1 python -m tests.exactness.mutations

# Hundreds of kills, hangs, full disks and the like, on real runs: docs/faults.md. Alone on the machine, 25 minutes.
faults: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.faults --out docs

# What make test leaves out because it takes minutes: several nodes of Ray, disks that fill up, more worlds and stages.
test-slow: $(VENV)/.installed-dev
	$(PYTEST) --slow -m slow

# Compiled ahead of time, for machines without a compiler; otherwise they are built when first used.
kernels: $(VENV)/.installed
	python -m spe_dist.kernels.compiled

# All that a machine with a GPU can tell in ten minutes, with what its python3 has (torch, transformers, pytest) and what
# make gpu-pack has written. It needs no network and installs nothing that stays. GPU_ARGS="--only step-256 --out FOLDER" …
gpu:
	python3 tests/gpu/session.py $(GPU_ARGS)

# Wheels, data and sources for make gpu, in build/gpu; with your own dataset of sentences: SHARDS=data/wiki.
gpu-pack: $(VENV)/.installed-dev
	python tests/gpu/pack.py $(if $(filter command line,$(origin SHARDS)),--shards $(SHARDS)) $(GPU_ARGS)

# What a run needs, as .ci/locks/run.txt pins it. `spe` is then in $(VENV)/bin.
install: $(VENV)/.installed

check: $(VENV)/.installed-dev
	pip check
	ruff check .
	ruff format --check .
	mypy
	lint-imports

# The unit tests with the lowest version of each direct dependency that pyproject.toml admits; torch is the locked one
# unless FLOOR_TORCH=2.11.0 says otherwise, and then kernels are tried too. Without tests marked any_version.
test-floors: $(FLOORS)/.installed
	PATH="$(abspath $(FLOORS)/bin):$$PATH" $(PYTEST) tests/unit -n 2 --dist loadfile -m "not any_version" \
		$(if $(FLOOR_TORCH),,--ignore tests/unit/spe_dist/kernels)

# The lock files anew, as pyproject.toml asks; LOCK=--upgrade takes the newest releases that it admits.
lock: $(TOOLS)/.installed
	$(TOOLS)/bin/python .ci/requirements.py lock $(LOCK)

# Which locked packages have a newer release, and which have known advisories (of PyPI; needs the internet).
outdated audit: $(TOOLS)/.installed
	$(TOOLS)/bin/python .ci/requirements.py $@

# What is installed for a run, as a software bill of materials (CycloneDX).
sbom: $(VENV)/.installed $(TOOLS)/.installed
	mkdir -p build
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --output-file build/sbom.json $(BIN)/python

format: $(VENV)/.installed-dev
	ruff check --fix .
	ruff format .

clean:
	rm -rf data runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

data/sample.jsonl: | $(VENV)/.installed
	spe shards sample-corpus --out $@ --sentences 30000

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# What the lock files name, and nothing else; each file's hash is checked. `pip check` tells what a lock file lacks.
# uv takes a third of pip's time, but reads no pip.conf: where it does not reach an index, pip goes on.
LOCKED := --quiet --require-hashes --no-deps --requirement
INSTALL := pip install $(LOCKED)
UV := $(TOOLS)/bin/uv pip install --python
locked = $(UV) $(1)/bin/python --compile-bytecode $(LOCKED) .ci/locks/$(2).txt || $(1)/bin/$(INSTALL) .ci/locks/$(2).txt
THIS := pip install --quiet --no-deps --no-build-isolation --editable .
define install
	$(BIN)/pip download --quiet --no-deps --dest $(VENV)/torch "$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' .ci/locks/torch.txt)"
	$(BIN)/$(INSTALL) .ci/locks/torch.txt --no-index --find-links $(VENV)/torch
	rm -r $(VENV)/torch
	$(call locked,$(VENV),$(1))
	cuda=$$($(BIN)/python .ci/requirements.py cuda) && { [ -z "$$cuda" ] || $(BIN)/$(INSTALL) "$$cuda"; }
	$(BIN)/$(THIS)
	$(BIN)/pip check
endef

$(VENV)/.installed: pyproject.toml .ci/locks/run.txt .ci/locks/torch.txt .ci/locks/cuda.txt | $(BIN)/pip $(TOOLS)/bin/uv
	$(call install,run)
	touch $@

$(VENV)/.installed-dev: pyproject.toml .ci/locks/dev.txt .ci/locks/torch.txt .ci/locks/cuda.txt | $(BIN)/pip $(TOOLS)/bin/uv
	$(call install,dev)
	touch $@ $(VENV)/.installed

$(TOOLS)/bin/uv:
	$(PYTHON) -m venv $(TOOLS)
	sed -n '/^uv==/,/# via/p' .ci/locks/tools.txt > $(TOOLS)/uv.txt
	$(TOOLS)/bin/$(INSTALL) $(TOOLS)/uv.txt

$(TOOLS)/.installed: .ci/locks/tools.txt | $(TOOLS)/bin/uv
	$(call locked,$(TOOLS),tools)
	touch $@

# Torch as pip finds it, which may be a CPU build; all else by uv, which is faster.
$(FLOORS)/.installed: pyproject.toml .ci/locks/run.txt $(TOOLS)/.installed
	$(PYTHON) -m venv --clear $(FLOORS)
	$(TOOLS)/bin/python .ci/requirements.py floors $(if $(FLOOR_TORCH),--torch $(FLOOR_TORCH)) > $(FLOORS)/floors.txt
	$(FLOORS)/bin/pip install --quiet "$$(grep '^torch==' $(FLOORS)/floors.txt)"
	$(UV) $(FLOORS)/bin/python --quiet --no-deps --requirement $(FLOORS)/floors.txt
	$(FLOORS)/bin/$(THIS)
	$(FLOORS)/bin/pip check
	touch $@
