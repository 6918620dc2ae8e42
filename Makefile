# Two commands do everything from nothing:
#   make pretrain     set up, build shards, train, export        (TEXT=… ENCODER=… NAME=… RECIPE=… BUILD=… ARGS=… for your own)
#   make test         set up and run the tests         (make test-exact: the long version of tests/exactness)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

# Your own text and encoder:  make pretrain TEXT=wiki.jsonl.gz ENCODER=bert-base-cased
TEXT ?=
ENCODER ?=
NAME ?= $(if $(TEXT),$(firstword $(subst ., ,$(notdir $(TEXT:/=)))),debug)
RECIPE ?= $(if $(ENCODER),minilm_cpu,debug)
TOKENIZER ?= $(if $(ENCODER),$(ENCODER),data_shards/debug_vocab.txt)
# Of shards, such as BUILD="--gold-entities --min-entities 3" for the entities of the embedded corpus.
BUILD ?=
ARGS ?=
SHARDS := data/$(NAME)

.PHONY: pretrain test test-slow test-exact faults kernels gpu check format lint types clean

pretrain: $(VENV)/.installed $(if $(TEXT),,data/sample.jsonl)
	spe shards build $(if $(TEXT),$(TEXT),data/sample.jsonl) --out $(SHARDS) --tokenizer $(TOKENIZER) \
		$(BUILD)
	python launcher/pretrain.py --config launcher/recipes/$(RECIPE).yaml --run.name $(NAME) --data.shards $(SHARDS) \
		$(if $(ENCODER),--encoder.name-or-path $(ENCODER)) $(ARGS)
	spe export runs/$(NAME)

# Two processes: much of the time is spent starting Ray and ranks.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m pytest -n 2 --dist loadfile

# 50 random stop points at every stage and precision; then every planted fault must turn a test red.
test-exact: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 python -m pytest tests/exactness --exact --slow --exact-report docs/data
	OMP_NUM_THREADS=1 python -m tests.exactness.mutations --out docs/data

# Hundreds of kills, hangs, full disks and the like, on real runs: docs/faults.md. Alone on the machine, 25 minutes.
faults: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.faults --out docs

# What make test leaves out because it takes minutes: several nodes of Ray, disks that fill up, more worlds and stages.
test-slow: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m pytest --slow -m slow

# Compiled ahead of time, for machines without a compiler; otherwise they are built when first used.
kernels: $(VENV)/.installed
	python -m spe_dist.kernels.compiled

# What needs a GPU: kernels against the definition, under compute-sanitizer too, and the benchmarks. SHARDS=… of real text.
# Each tensor an allocation of its own, or the sanitizer would see torch's large blocks instead of their ends.
# BIN=/usr/bin: with the python3 there and what it has (torch, pytest); nothing is installed, so no network is needed.
SANITIZED := tests/gpu/test_span_pool_on_gpu.py::test_values_places_and_gradients_are_those_of_the_definition[0]
gpu: $(if $(findstring command line,$(origin BIN)),,$(VENV)/.installed-test)
	python3 -m pytest tests/gpu
	for tool in memcheck racecheck initcheck synccheck; do \
		PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool $$tool --error-exitcode 1 \
			python3 -m pytest "$(SANITIZED)" || exit 1; done
	python3 launcher/cli.py bench span-pool --out docs/data/gpu
	python3 launcher/cli.py bench packing objectives --out docs/data/gpu -- --config launcher/recipes/spe_wiki.yaml \
		--encoder.name-or-path None --data.shards $(SHARDS)

check: $(VENV)/.installed-dev
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: $(VENV)/.installed-dev
	ruff check --fix .
	ruff format .

clean:
	rm -rf data runs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

data/sample.jsonl: | $(VENV)/.installed
	spe shards sample-corpus --out $@ --sentences 30000

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,dev]'
	touch $@ $(VENV)/.installed $(VENV)/.installed-test
