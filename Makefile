SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
# How torch is installed: a pip requirement with options, for example
#   make test TORCH="torch==2.13.0 --index-url <where your CPU or CUDA build is>"
TORCH ?= torch==2.13.0
# Test processes; each runs on one thread.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
# How long `make soak` goes on.
HOURS ?= 1
ARGS ?=

BIN := $(VENV)/bin
FAST := not slow and not gpu and not external and not network and not robot
export TORCH

.PHONY: help setup demo test check fix external lerobot soak lock clean

help: ## Show this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: ## Make or mend .venv (PYTHON=, TORCH= choose what goes in)
	@.ci/setup $(VENV)

demo: setup ## From nothing to the demo's result: camera node, reward node, learner
	@$(BIN)/robo-reward demo $(ARGS)

test: setup ## From nothing to a green test run: check, then every fast test (ARGS= for pytest)
	@$(MAKE) --no-print-directory check VENV=$(VENV)
	@$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "$(FAST)" $(ARGS)

check: setup ## Lint, format, types, import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache

fix: setup ## Mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

external: ## Tests on Gymnasium-Robotics and Meta-World, in .venv-external
	@.ci/setup .venv-external requirements-external.txt
	@.venv-external/bin/python -m pytest -q -m external tests/external $(ARGS)

lerobot: setup ## Tests against LeRobot's own package, in .venv-lerobot
	@.ci/lerobot .venv-lerobot
	@$(BIN)/python -m pytest -q -m external tests/external/test_lerobot.py $(ARGS)

soak: setup ## The long tests: every fault for HOURS=1, resumable
	@ROBO_REWARD_SOAK_HOURS=$(HOURS) $(BIN)/python -m pytest -q -m slow --timeout 0 $(ARGS)

lock: ## Resolve the requirements-*.txt anew (UPGRADE=--upgrade for newer versions); needs uv
	@.ci/lock $(UPGRADE)

clean: ## Remove what was built, and the virtual environments
	rm -rf .venv .venv-external .venv-lerobot build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
