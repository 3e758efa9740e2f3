# SPDX-License-Identifier: Apache-2.0
# Thin: each target says what it does and calls the tool that does it.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v /usr/bin/python3.11 || command -v python3)
VENV := .venv
CLUSTER := $(VENV)/bin/python -m tests.cluster
STEP := $(CLUSTER) step
FUZZ_RUNS ?= 1000000
JOBS ?= $(shell nproc)

.PHONY: help venv packages demo demo-down test images crds bench bench-vpp lint fmt native vpp-plugins

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

venv: $(VENV)/.complete ## make .venv with the pinned versions of constraints.txt

$(VENV)/.complete: constraints.txt
	@echo "--> $(VENV): packages of constraints.txt"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=...") if sys.version_info < (3, 11) else 0'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends python3-venv; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r constraints.txt
	@touch $@

packages: venv ## install the Debian packages that are missing
	@$(CLUSTER) packages

demo: packages ## start the cluster, install the chart, drive traffic, leave it up
	@$(CLUSTER) demo

demo-down: venv ## end the demo's cluster and remove every trace of it
	@$(CLUSTER) down

images: packages ## build the product's images as archives for `ctr images import`; VPP_PREFIX=DIRECTORY: VPP's, too
	@$(CLUSTER) images

vpp-plugins: ## build VPP's plugins against the VPP on PATH, or make vpp-plugins VPP_PREFIX=DIRECTORY
	@$(MAKE) -C vpp-plugins vpp

native: packages
	@$(STEP) "C: build, unit tests" $(MAKE) --jobs=$(JOBS) --output-sync=target -C vpp-plugins test

lint: venv ## ruff, mypy, import-linter, drift of the generated definitions
	@$(STEP) "lint: ruff" $(VENV)/bin/ruff check
	@$(STEP) "lint: ruff format" $(VENV)/bin/ruff format --check
	@$(STEP) "lint: mypy" $(VENV)/bin/mypy
	@$(STEP) "lint: mypy (test cluster)" $(VENV)/bin/mypy -p tests.cluster
	@$(STEP) "lint: mypy (benchmark)" $(VENV)/bin/mypy -p bench.vpp
	@$(STEP) "lint: imports" env PYTHONPATH=operator $(VENV)/bin/lint-imports
	@$(STEP) "lint: definitions" env PYTHONPATH=operator $(VENV)/bin/python -m vpp_operator.api.crds --check
	@$(STEP) "lint: definitions in the chart" \
	  env PYTHONPATH=operator $(VENV)/bin/python -m vpp_operator.api.crds --check charts/vpp-operator/files/crds

fmt: venv ## format the Python code
	@$(VENV)/bin/ruff check --fix --quiet || true
	@$(VENV)/bin/ruff format

crds: venv ## generate crds/ and the chart's copy from the models
	@PYTHONPATH=operator $(VENV)/bin/python -m vpp_operator.api.crds
	@PYTHONPATH=operator $(VENV)/bin/python -m vpp_operator.api.crds charts/vpp-operator/files/crds

test: lint native ## everything that runs without VPP; ends with pytest's summary
	@$(STEP) "C: fuzz, $(FUZZ_RUNS) runs a target" $(MAKE) --jobs=$(JOBS) --output-sync=target -C vpp-plugins fuzz FUZZ_RUNS=$(FUZZ_RUNS)
	@$(CLUSTER) parts
	@$(CLUSTER) images
	@echo "--> pytest: unit, contract, control, e2e"
	@$(VENV)/bin/pytest --whole-suite tests/unit tests/contract tests/control tests/e2e

bench: packages ## clocks per packet of the packet kernels
	@$(STEP) "bench: kernels" $(MAKE) -C vpp-plugins bench

bench-vpp: venv ## clocks per packet in VPP, beside VPP's own plugins: VPP on PATH or VPP_PREFIX; BENCH_ARGS=--short, --help
	@env PYTHONPATH=operator $(VENV)/bin/python -m bench.vpp $(BENCH_ARGS)
