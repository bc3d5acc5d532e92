# The first call makes .venv and installs into it; later ones do not, unless setup.cfg changed.
# Any Python from 3.10 on will do: make demo PYTHON=/path/to/python3

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := benchmarks configs data_pipelines eval models training

.PHONY: demo test test-long test-all check links clean

demo: $(VENV)/installed
	$(BIN)/tercet demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-long: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m long

test-all: test test-long

check: $(VENV)/installed-dev links
	$(BIN)/ruff check .
	$(BIN)/mypy

# What `import tercet.models` finds once installed, static checkers find through these links.
links:
	@mkdir -p .lint/tercet
	@find .lint/tercet -type l -delete
	@for name in $(FOLDERS); do ln -s ../../$$name .lint/tercet/$$name; done
	@for path in tercet/*; do ln -s ../../$$path .lint/tercet/; done

clean:
	rm -rf $(VENV) .lint build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "$(PYTHON) is missing or older than 3.10: make $(MAKECMDGOALS) PYTHON=/path/to/python3.10-or-newer"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { rm -rf $(VENV); echo "this Python cannot make environments: install python3-venv (Debian, Ubuntu), or name another by PYTHON="; exit 1; }

$(VENV)/installed: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --editable .
	@touch $@

$(VENV)/installed-dev: setup.cfg | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[dev]'
	@touch $(VENV)/installed $@
