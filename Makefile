PYTHON ?= python3
VENV ?= .venv

bin := $(VENV)/bin
stamp := $(VENV)/.installed
doc_out := doc/_build

# The papers' data lies beside some checkouts; without it the code uses what scikit-learn ships.
ifneq ($(wildcard ../shared/data/.),)
SKMAG_DATA ?= $(abspath ../shared/data)
export SKMAG_DATA
endif

# No window may open: tests, doctests and the gallery draw into memory.
export MPLBACKEND = Agg

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help env demo test bench doc clean distclean \
	lint types layers docstrings unit doctest readme doc-check

help:
	@echo "make demo    compare the classifiers on the papers' data"
	@echo "make test    every check, stopping at the first that fails"
	@echo "make doc     the documentation with its gallery, in $(doc_out)/html"
	@echo "make bench   measure against peers"
	@echo "make clean   remove what these write (distclean: the environment too)"

env: $(stamp)

$(stamp): pyproject.toml constraints.txt
	@echo "== environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed: make PYTHON=...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@$(bin)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e ".[plot,test,doc,bench]"
	@touch $@

demo: $(stamp)
	@$(bin)/python examples/compare_classifiers.py

bench: $(stamp)
	@$(bin)/python benchmarks/magnitude.py

test: lint types layers docstrings unit doctest readme doc-check
	@echo "== all checks passed"

lint: $(stamp)
	@echo "== ruff"
	@$(bin)/ruff check --quiet .
	@$(bin)/ruff format --quiet --diff .

types: $(stamp)
	@echo "== mypy"
	@$(bin)/mypy

layers: $(stamp)
	@echo "== imports between the rooms"
	@$(bin)/lint-imports --no-logo
	@$(bin)/python tools/check_private_imports.py skmag

docstrings: $(stamp)
	@echo "== docstrings of the public names"
	@$(bin)/python tools/check_docstrings.py

# SCIPY_ARRAY_API must be set before SciPy is imported, or the array API tests skip themselves. On
# the tests' small data, threads that wait for each other cost more than they bring.
unit: $(stamp)
	@echo "== unit tests"
	@SCIPY_ARRAY_API=1 OMP_NUM_THREADS=1 $(bin)/python -m pytest --quiet --numprocesses auto

doctest: $(stamp)
	@echo "== examples in docstrings and in the user guide"
	@$(bin)/python -m pytest --quiet --doctest-modules --doctest-glob="*.rst" skmag doc/user_guide

readme: $(stamp)
	@echo "== code in the README"
	@$(bin)/python tools/check_readme.py README.md

doc-check: $(stamp)
	@echo "== documentation, gallery not executed"
	@$(bin)/python -m sphinx -q -W --keep-going -b html -D plot_gallery=0 \
		-d $(doc_out)/check-doctrees doc $(doc_out)/check

doc: $(stamp)
	@echo "== documentation in $(doc_out)/html"
	@$(bin)/python -m sphinx -q -W --keep-going -b html -d $(doc_out)/doctrees doc $(doc_out)/html

clean:
	@rm -rf $(doc_out) doc/auto_examples doc/generated doc/sg_execution_times.rst \
		results build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find skmag tests examples benchmarks tools doc -name __pycache__ -type d -prune \
		-exec rm -rf {} + 2>/dev/null || true

distclean: clean
	@rm -rf $(VENV)
