# Two commands on a fresh clone: `make demo` and `make test`. Needs Python 3.10+, a C++ compiler, make.
# Everything goes into .venv; a stamp there remembers which sources were installed, so a second
# call installs nothing and a call after an edit installs again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# On a host without a GPU the CPU build is enough; installing it first keeps pip from choosing another.
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=

ROOMS := esccs_edge training export calibration
SOURCES := pyproject.toml CMakeLists.txt README.md LICENSE \
	$(shell find $(ROOMS) -type f -not -path '*/__pycache__/*' -not -name '.*')

LISTING := $(shell echo $(sort $(SOURCES)) | cksum)

.PHONY: demo test bench lint types model wheel clean always

demo: $(VENV)/installed-runtime
	$(BIN)/esccs-edge demo --out demo-out

test: $(VENV)/installed-dev
	$(BIN)/pytest $(PYTEST_ARGS)

# Times this package beside other runtimes and under load, for about half an hour; nothing else should
# run. BENCH_ARGS="--help" lists the options. Started in tests/, so that no source is taken for the package.
bench: $(VENV)/installed-dev
	cd tests && $(abspath $(BIN))/python -m benchmarks.page --out ../bench-out $(BENCH_ARGS)

# For a machine with an NVIDIA GPU; see docs/hardware/README.md.
gpu: $(VENV)/installed-dev
	PATH="$(abspath $(BIN)):$$PATH" docs/hardware/run.sh

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The installed package is checked: only there do the rooms stand under their imported names.
types: $(VENV)/installed-dev
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p esccs_edge

# Makes the model that ships with the package again, from the sample data (about 15 minutes on 2 cores).
DATA ?= ../shared/data
model: $(VENV)/installed-dev
	$(BIN)/esccs-edge train --config training/configs/eurosat.toml --out runs/eurosat \
		--data eurosat:$(DATA)/eurosat-ms --set clouds.textures=$(DATA)/sen12ms-cr/cloudy-clear
	$(BIN)/esccs-edge export runs/eurosat/bundle
	$(BIN)/esccs-edge calibrate runs/eurosat/bundle runs/eurosat/heldout/index.csv
	cd runs && ../$(BIN)/python -c "from esccs_edge import Bundle; Bundle.open('eurosat/bundle') \
		.copy('../esccs_edge/models/default', without=['student.safetensors'])"

wheel: $(VENV)/made
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist

clean:
	rm -rf $(VENV) build dist demo-out bench-out .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

# Changes when a source is added or removed, which the time of the other files does not tell.
$(VENV)/sources: $(VENV)/made always
	@echo "$(LISTING)" | cmp -s - $@ || echo "$(LISTING)" > $@

$(VENV)/installed-runtime: $(VENV)/sources $(SOURCES)
	$(BIN)/pip install --quiet ".[geo,view]"
	touch $@

$(VENV)/installed-dev: $(VENV)/sources $(SOURCES)
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet ".[dev]"
	touch $@ $(VENV)/installed-runtime
