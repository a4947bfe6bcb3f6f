# Every habit is a command. Each target does its own set-up, which costs nothing when it is done.

PYTHON ?= python3
ENGINE ?= $(if $(HYDRA_ENGINE),$(HYDRA_ENGINE),simulated)
RUN := .venv/bin/python
# Tests wait for servers more than they work.
WORKERS ?= 2
UV := .tools/uv/bin/uv
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header

.DEFAULT_GOAL := help
.PHONY: help demo up down test check bench e2e compose-test sglang sbom licences audit lock clean set-up set-up-dev set-up-engine

help: ## show what can be done here
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | \
		awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: set-up set-up-engine ## play the main job on a platform of its own, from request to bill (ENGINE=simulated|sglang)
	@HYDRA_ENGINE=$(ENGINE) ./hydra demo

up: set-up set-up-engine ## run the platform until Ctrl-C (DETACH=1 returns when it is ready)
	@HYDRA_ENGINE=$(ENGINE) ./hydra up $(if $(filter-out 0,$(DETACH)),--detach)

down: ## stop the platform
	@./hydra down

test: set-up-dev ## run the tests, two files at a time, on real servers (SGLANG=1: also those that need SGLang)
	@$(RUN) -m pytest -q -rfEs -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not sglang" tests; failed=$$?; \
	if [ -n "$(filter-out 0,$(SGLANG))$(wildcard .tools/sglang/bin/python)" ]; then \
		$(RUN) -m pytest -q -rfEs -m sglang tests/contract || failed=$$?; \
	fi; exit $$failed

check: set-up-dev ## format, lint, strict types, import layers, schemas
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@.venv/bin/lint-imports --no-logo
	@$(RUN) -m schemas.generate --check

bench: set-up-dev ## measure, and keep the numbers in benchmarks/
	@$(RUN) -m benchmarks

e2e: set-up-dev ## the long runs, within 80 minutes (PARTS="soak alerts bill faults outages full_disk long_faults long_pairs compose")
	@$(RUN) -m tests.e2e $(PARTS)

compose-test: set-up-dev ## play the main job on `docker compose up`, kill Kafka and the gateway, compare the bill
	@$(RUN) -m pytest -q -s -x -o timeout=1400 tests/compose/test_compose_file_on_an_engine.py

sglang: set-up ## set SGLang up on the CPU, in an environment of its own
	@$(RUN) -m runner.sglang_setup

sbom: set-up-dev ## list everything that is pinned, in CycloneDX: build/sbom.cdx.json
	@$(RUN) -m supply_chain.sbom

licences: set-up-dev ## write docs/licences.md from what is installed; fails for one that may not be used
	@$(RUN) -m supply_chain.licences

audit: set-up-dev ## locks whole, installed as locked, and known flaws where the network allows to ask
	@$(RUN) -m supply_chain.audit
	@$(RUN) -m supply_chain.licences --check

lock: ## resolve the locked requirements anew
	@$(PYTHON) -m runner.setup uv
	@cd requirements && ../$(LOCK) --extra platform --extra local --extra dev ../pyproject.toml --output-file dev.txt
	@cd requirements && ../$(LOCK) --extra platform --extra local --constraint dev.txt ../pyproject.toml \
		--output-file platform.txt
	@cd requirements && ../$(LOCK) --extra platform --constraint dev.txt ../pyproject.toml --output-file image.txt

clean: ## remove what set-up made; the platform's data in .hydra stays
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info

set-up:
	@$(PYTHON) -m runner.setup platform

set-up-dev:
	@$(PYTHON) -m runner.setup dev

set-up-engine: set-up
	@case "$(ENGINE)" in \
		simulated) ;; \
		sglang) $(RUN) -m runner.sglang_setup ;; \
		*) echo "make: ENGINE=$(ENGINE) is unknown; choose simulated or sglang" >&2; exit 1 ;; \
	esac
