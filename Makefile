# make demo: look at what it does; make test: every check. Both set up .venv from requirements.lock first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test

demo: .venv/.installed
	$(BIN)/seechat demo

test: .venv/.installed .venv/.cards
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest

.venv/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer, please: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	touch $@

.venv/.cards: requirements-cards.lock .venv/.installed
	$(BIN)/python -m pip install -q --no-deps -r requirements-cards.lock
	touch $@
