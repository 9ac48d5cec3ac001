# Two commands set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo

.PHONY: demo test lint clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seg needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt ruff mypy pytest hypothesis pytest-timeout pytest-xdist \
		hatchling torchio    # for the packages in docs/examples
	touch $@

demo: $(VENV)/.installed
	$(BIN)/seg phantom $(DEMO)/Dataset001_Phantom --seed 0
	$(BIN)/seg run $(DEMO)/Dataset001_Phantom -o $(DEMO)/run --planner nnunet --arch unetpp --fold 0 --budget 3m

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	PYTHONUTF8=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n 2    # two processes of one thread are faster than one of two

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .ruff_cache .pytest_cache
