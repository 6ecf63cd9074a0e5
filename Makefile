# Set-up, server and tests. Every target that needs the environment makes it first; a run with
# nothing to do takes no time. Settings, as `NAME=value make ...`:
#   DEMO     what `make serve` serves: media (default) or text, the demo model without towers
#   EXTRA    engine: cpu or gpu (default: gpu where nvidia-smi finds one)
#   PORT     where `make serve` listens on 127.0.0.1 (default: 8000)
#   PYTHON   interpreter that creates the environment, 3.11 to 3.13 (default: python3)
#   VENV     the environment's folder (default: .venv)
#   MINUTES  how long `make soak` lasts (default: 12)
#   PYTEST   more arguments for pytest, such as PYTEST='-k policy -x'; coverage is not judged then
#   COVERAGE whether `make test` judges coverage: yes or no (default: yes on a CPU with AVX-512)
#   LOCKED   yes (default), or no: packages by pyproject.toml's ranges, digests not compared

SHELL := /bin/bash
.DEFAULT_GOAL := help

DEMO ?= media
PORT ?= 8000
PYTHON ?= python3
VENV ?= .venv
PYTEST ?=
MINUTES ?= 12
LOCKED ?= yes
# Measuring takes half of the time again, which a slow CPU has not: `make check` does it there.
COVERAGE ?= $(if $(shell grep -m1 -w avx512f /proc/cpuinfo 2>/dev/null),yes,no)
EXTRA ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

BIN := $(VENV)/bin
ENVIRONMENT := $(PYTHON) deploy/local/environment.py --venv $(VENV) \
	$(if $(filter no,$(LOCKED)),--unlocked) --extras
OFFLINE_TOOLS := demo,calibrate,evaluate
DEMO_MODEL := $(BIN)/python deploy/local/demo_model.py
DEMO_MEDIA := $(BIN)/python deploy/local/demo_omni.py
SERVED := $(if $(filter text,$(DEMO)),$(DEMO_MODEL),$(DEMO_MEDIA))
# What was not run, of both parts of the tests, for the last lines of `make test`.
LEFT_OUT := build/tests_left_out.txt
export REFUSAL_TESTS_LEFT_OUT := $(LEFT_OUT)
# Every process of the tests would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE
# Tests of one file stay in one process, files start in their order: the slowest are not the last.
TWO_PROCESSES := -n 2 --dist loadfile --no-loadscope-reorder
# Tests that share an engine stay in one process, whose engines have one core.
ON_OWN_CORES := -n 2 --dist loadscope --no-loadscope-reorder
# Where tests with an engine are, so that nobody imports the other tests' modules once more.
WITH_ENGINE := $(addprefix tests/,attack behaviour engine examples families faults operations \
	server/http server/run)
# Part of the tests covers part of the code: a run that PYTEST narrows is not measured.
MEASURED = $(and $(filter yes,$(COVERAGE)),$(if $(PYTEST),,yes))
define FAST_TESTS
$(if $(MEASURED),$(BIN)/python -m coverage erase)
@$(BIN)/python $(if $(MEASURED),-m coverage run) -m pytest -m "not engine and not gpu" \
	$(or $(PYTEST),$(TWO_PROCESSES)) \
	$(call or_else,read the failures above; PYTEST='-k name -x' repeats one)
$(if $(MEASURED),@$(BIN)/python -m coverage combine --quiet)
$(if $(MEASURED),@$(BIN)/python -m tests.coverage_floors \
	$(call or_else,test what the rooms named above do; the floors are in pyproject.toml))
endef
ENGINE_COVERAGE := --rcfile=tests/engine/coverage.toml
or_else = || { status=$$?; echo "make $@: failed. What to do: $(1)" >&2; exit $$status; }

.PHONY: help
help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22
	@sed -n 's/^#   \([A-Z]*\) */  \1\t/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: serve
serve: install ## Set up, fetch the demo model, and serve it on 127.0.0.1:$(PORT)
	@$(SERVED)
	@dtype="$${REFUSAL_STEERING_DEMO_DTYPE:-$$($(BIN)/python deploy/local/demo_dtype.py)}" && \
	{ [ "$$dtype" = float32 ] && slow=true || slow=false; } && \
	export REFUSAL_STEERING_DEMO_MODEL="$$($(SERVED) --print-path)" \
		REFUSAL_STEERING_DEMO_DTYPE="$$dtype" \
		REFUSAL_STEERING_DEMO_EAGER="$${REFUSAL_STEERING_DEMO_EAGER:-$$slow}" \
		TRANSFORMERS_VERBOSITY="$${TRANSFORMERS_VERBOSITY:-error}" && \
	exec $(BIN)/refusal-server --config deploy/demo/server.yaml --port $(PORT)

.PHONY: test
test: install-dev ## Set up, then run all tests: fast ones first, then those with an engine
	@$(DEMO_MEDIA)
	@mkdir -p build && rm -f $(LEFT_OUT)
	@echo "tests: fast ones"
	@$(if $(or $(MEASURED),$(PYTEST)),,echo "coverage: 'make check' judges it" >> $(LEFT_OUT))
	@$(FAST_TESTS)
	@echo "tests: with a real engine$(if $(filter gpu,$(EXTRA)),, on the CPU)"
	@$(BIN)/python -m pytest -m "$(if $(filter gpu,$(EXTRA)),engine or gpu,engine and not gpu)" \
		$(or $(PYTEST),$(if $(filter gpu,$(EXTRA)),,$(ON_OWN_CORES) $(WITH_ENGINE))) \
		$(call or_else,read the failures above; PYTEST='-k name -x' repeats one)
	@if [ -s $(LEFT_OUT) ]; then echo "tests: not run on this machine"; cat $(LEFT_OUT); fi

.PHONY: check
check: COVERAGE := yes
check: lint ## Format, lint, types, import rules, dead code, fast tests with their coverage
	@$(FAST_TESTS)

.PHONY: docs
docs: install-dev ## Build the documentation as a site in build/site; a warning is an error
	@$(BIN)/python -m deploy.site.build $(call or_else,mend what the lines above name)

.PHONY: release-check
release-check: install-dev ## Build wheel and sdist, and use the wheel in an empty environment
	@$(BIN)/python deploy/local/release.py $(call or_else,read the error above)

.PHONY: coverage-engine
coverage-engine: install-dev ## Measure what the tests with an engine pass of the plugin for vLLM
	@$(DEMO_MEDIA)
	@$(BIN)/python -m coverage run $(ENGINE_COVERAGE) -m pytest -m engine $(PYTEST) \
		$(call or_else,read the failures above; PYTEST='-k name -x' repeats one)
	@$(BIN)/python -m coverage combine --quiet $(ENGINE_COVERAGE)
	@$(BIN)/python -m coverage report $(ENGINE_COVERAGE)

.PHONY: lint
lint: install-dev ## The checks that run nothing: format, lint, types, import rules, dead code
	@$(BIN)/ruff format --check . $(call or_else,run 'make format')
	@$(BIN)/ruff check . $(call or_else,correct the lines named above; 'make format' does the easy ones)
	@$(BIN)/mypy $(call or_else,correct the types named above)
	@$(BIN)/lint-imports $(call or_else,move the import named above to the side that may have it)
	@$(BIN)/vulture $(call or_else,remove what is named above; or say in [tool.vulture] who calls it)

.PHONY: format
format: install-dev ## Rewrite the sources in the house format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench
bench: install-dev ## Measure what steering costs
	@$(DEMO_MODEL)
	@$(BIN)/python -m tests.bench.overhead $(call or_else,read the error above)
	@$(BIN)/python -m tests.bench.latency $(call or_else,read the error above)
	@$(BIN)/python -m tests.bench.checks $(call or_else,read the error above)
	@$(BIN)/python -m tests.bench.application $(call or_else,read the error above)
	@$(BIN)/python -m tests.bench.host $(call or_else,read the error above)
	@$(BIN)/python -m tests.bench.operator $(call or_else,read the error above)
	@$(BIN)/python -m tests.bench.strengths $(call or_else,read the error above)

.PHONY: load
load: install-dev ## Load on this server and on stock vLLM, in turns
	@$(DEMO_MEDIA)
	@$(BIN)/python -m tests.bench.load $(call or_else,read the error above)

.PHONY: gpu-check
gpu-check: install-dev ## The operator's table, the laws and the overhead on this machine's NVIDIA GPU
	@mkdir -p build/gpu
	@$(BIN)/python -m tests.bench.operator --device cuda --out build/gpu/operator.md \
		$(call or_else,without a GPU nothing was run; else read the lines above)
	@$(BIN)/python -m tests.gpu.laws_on_gpu build/gpu --part laws overhead --seconds 3600 \
		$(call or_else,read the lines above; build/gpu/gpu.json holds what was judged)

.PHONY: attack
attack: install-dev ## Attack a server of the demo model and print what became of it
	@$(DEMO_MODEL)
	@$(BIN)/python -m tests.attack.attack --model "$$($(DEMO_MODEL) --print-path)" \
		$(call or_else,read the table above; each line says which promise was broken)

.PHONY: bad-inputs
bad-inputs: install-dev ## Try every row of the table of bad inputs and faults on servers of its own
	@$(DEMO_MEDIA)
	@$(BIN)/python -m tests.attack.rows --model "$$($(DEMO_MODEL) --print-path)" \
		--media-model "$$($(DEMO_MEDIA) --print-path)" \
		$(call or_else,read the table above; each line says which promise was broken)

.PHONY: soak
soak: install-dev ## Mixed traffic for MINUTES=12 and what it leaves behind
	@$(DEMO_MODEL)
	@$(BIN)/python -m tests.attack.soak --model "$$($(DEMO_MODEL) --print-path)" \
		--minutes $(MINUTES) $(call or_else,read the table above)

.PHONY: families
families: install-dev ## Build, serve and ask a tiny model of every family; write docs/families.md
	@$(BIN)/python -m tests.families.matrix \
		$(call or_else,read the notes in docs/families.md and the logs below build/families)

.PHONY: demo-bundle
demo-bundle: install-dev ## Calibrate the demo model's steering bundle anew
	@$(DEMO_MEDIA)
	@mkdir -p build
	@$(BIN)/refusal-steering offsets --model "$$($(DEMO_MEDIA) --print-path)" \
		--served-by deploy/demo/server.yaml --out build/demo_offsets.safetensors \
		$(call or_else,read the error above)
	@$(BIN)/refusal-steering build --model "$$($(DEMO_MODEL) --print-path)" \
		--name Qwen/Qwen2.5-Coder-0.5B-Instruct --offsets build/demo_offsets.safetensors \
		--out deploy/demo/bundles --force $(call or_else,read the error above)

.PHONY: install
install: ## Create the environment with the engine and the offline tools
	@$(ENVIRONMENT) $(EXTRA),$(OFFLINE_TOOLS)

.PHONY: install-dev
install-dev: ## The same with everything for tests
	@$(ENVIRONMENT) $(EXTRA),$(OFFLINE_TOOLS),dev,detect,fleet

.PHONY: lock
lock: install-dev ## Resolve the requirements anew and write the lock files
	@$(BIN)/python deploy/local/lock.py

.PHONY: demo-model
demo-model: install ## Fetch the demo model, and make the one with media beside it
	@$(DEMO_MEDIA)

.PHONY: clean
clean: ## Remove caches and build output
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.git/*' -not -path './$(VENV)/*' \
		-prune -exec rm -rf {} +

.PHONY: clean-all
clean-all: clean ## Remove the environment as well; models stay in ~/.cache/refusal-steering
	@rm -rf $(VENV) $(VENV).lock
