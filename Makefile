# outrider: `make help` lists the targets. `make demo` and `make test` need nothing else first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := .tools
SAM := $(TOOLS)/sam/bin/sam
SAM_STAMP := $(TOOLS)/sam/.installed
REPORT ?=
# What Lambda allows is 250 MB (unzipped, layers and function); we stop at 180.
LARGEST_MB := 180

# Nothing here talks to an account: a region is needed to name things, credentials are words.
OFFLINE := AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing \
  AWS_EC2_METADATA_DISABLED=true SAM_CLI_TELEMETRY=0

.DEFAULT_GOAL := help
.PHONY: help setup fmt lint test unit bench demo build layer-host e2e e2e-build pr ci clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{split($$1, n, ":"); printf "  make %-12s %s\n", n[1], $$2}'

demo: $(STAMP)  ## the whole job on this machine, in about a minute; REPORT=demo.html keeps a report
	@$(BIN)/outrider demo $(if $(REPORT),--report $(REPORT))

test: $(STAMP)  ## every test that needs no account and no control plane
	$(BIN)/python -m pytest -m "not bench and not e2e_real" -n 2 --dist loadfile $(if $(ONLY),-k "$(ONLY)")

unit: $(STAMP)  ## the planner's tests alone
	$(BIN)/python -m pytest tests/unit tests/properties

lint: $(STAMP) $(SAM_STAMP)  ## formatting, rules, types, floors, template, state machines
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(OFFLINE) $(SAM) validate --lint
	@for machine in statemachines/*.asl.yaml; do \
	  echo "statelint $$machine"; \
	  $(BIN)/statelint --yaml "$$(sed -e 's/\$${Partition}/aws/' -e 's/\$${[A-Za-z]*Arn}/arn:aws:lambda:us-east-1:123456789012:function:f/' $$machine)" || exit 1; \
	done

fmt: $(STAMP)  ## format, and mend what a rule can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build: $(STAMP) $(SAM_STAMP)  ## sam build: layers cross-installed for the Lambda runtime
	PATH="$(CURDIR)/$(BIN):$$PATH" $(OFFLINE) $(SAM) build
	@for folder in OutriderLayer SolverLayer ProvisionFunction; do du -sm .aws-sam/build/$$folder; done \
	  | awk '{sum += $$1; print} END {print sum " MB of layers and function, limit $(LARGEST_MB)"; exit (sum > $(LARGEST_MB))}'

layer-host: $(STAMP)  ## the layers for this machine's Python, in build/layer-host: cold imports are measured on it
	@version="$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')"; \
	export PATH="$(CURDIR)/$(BIN):$$PATH"; \
	rm -rf build/layer-host build/layer-source && mkdir -p build && cp -R layers/outrider build/layer-source && \
	$(MAKE) --no-print-directory -s -C build/layer-source build-OutriderLayer ARTIFACTS_DIR="$(CURDIR)/build/layer-host/outrider" PLATFORM= RUNTIME=$$version PYTHON=python && \
	$(MAKE) --no-print-directory -s -C layers/solver build-SolverLayer ARTIFACTS_DIR="$(CURDIR)/build/layer-host/solver" PLATFORM= RUNTIME=$$version PYTHON=python
	@rm -rf build/layer-source; du -sm build/layer-host/*

bench: $(STAMP) layer-host  ## speed and memory, against tests/benchmarks
	$(BIN)/python -m pytest -m bench tests/benchmarks

e2e: $(STAMP) e2e-build  ## the promises about Kubernetes, on a real control plane on loopback
	$(BIN)/python -m pytest -p tests.e2e.real.plugin $(if $(ONLY),-k "$(ONLY)") tests/conformance tests/e2e/real

e2e-build: $(STAMP)  ## find or build that control plane (Go, into a cache folder: docs/e2e.md)
	@$(BIN)/python -m tests.e2e.real.binaries build

pr: lint test build demo  ## what .ci/run wants to see, but for e2e

ci: pr

clean:  ## remove what the other targets made
	rm -rf build .aws-sam $(VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

setup: $(STAMP)  ## create .venv with everything but the SAM CLI

$(STAMP): pyproject.toml layers/outrider/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "outrider needs Python >= 3.11: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -e 'layers/outrider[local]' --group dev
	@$(BIN)/python -m compileall -q layers/outrider/src functions
	@touch $@

# The SAM CLI pins dozens of packages: it lives in a room of its own.
$(SAM_STAMP): $(STAMP)
	@test -x $(TOOLS)/sam/bin/python || $(PYTHON) -m venv $(TOOLS)/sam
	@$(BIN)/uv pip install --quiet --python $(TOOLS)/sam/bin/python 'aws-sam-cli>=1.150,<2'
	@touch $@
