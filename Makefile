# Two commands on a fresh clone: `make demo` and `make test`. Needs Python 3.10+, a C++ compiler, make.
# Everything goes into .venv and, for further Pythons, into .venv-*; a stamp there remembers which
# sources were installed, so a second call installs nothing and a call after an edit installs again.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Installed first, so that pip keeps this version. It comes from the index that pip is set up with; on Linux
# the default one has a build for CUDA, of several GB. For the CPU build, put that into .venv before, or name the
# index that holds it in PIP_EXTRA_INDEX_URL or PIP_INDEX_URL.
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=
# The suite of the runtime runs on these, where the machine has them.
PYTHONS ?= 3.10 3.11 3.12 3.13
OWN := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
RESULTS := build/suites

PACKAGES := esccs_edge training export calibration
SOURCES := pyproject.toml CMakeLists.txt README.md LICENSE \
	$(shell find $(PACKAGES) -type f -not -path '*/__pycache__/*' -not -name '.*')

stage = @printf '\n== %s\n' '$(1)'

# $(call runtime_suite,NAME,PYTHONS,PIP_ARGS): in .venv-NAME, with the first of PYTHONS that is there.
define runtime_suite
	$(call stage,the suite of the runtime: $(1))
	@mkdir -p $(RESULTS)
	@if python=$$(.ci/find-python $(2)); then \
		$(MAKE) --no-print-directory .venv-$(1)/installed RUNTIME_PYTHON=$$python PIP_ARGS="$(3)"; \
		.venv-$(1)/bin/python -VV; \
		.venv-$(1)/bin/pytest -q -rfE --ignore=tests/benchmarks | tee $(RESULTS)/$(1); \
	else \
		echo 'skipped: no Python $(2) with headers and ensurepip on this machine' | tee $(RESULTS)/$(1); \
	fi
endef

LISTING := $(shell echo $(sort $(SOURCES)) | cksum)

.PHONY: demo test docs forget-results suite test-lowest test-pythons bench lint spell types gpu model \
	land-cover crop-series wheel arm64 \
	clean always

demo: $(VENV)/installed-runtime
	$(BIN)/esccs-edge demo --out demo-out

# What CI runs. The last line of each suite stands once more at the end.
test: forget-results lint spell types docs suite test-lowest test-pythons
	@printf '\n== passed: lint, spelling, types and the suites\n'
	@cd $(RESULTS); for suite in *; do printf '%-8s %s\n' $$suite "$$(tail -n 1 $$suite)"; done

forget-results:
	@rm -rf $(RESULTS)

suite: $(VENV)/installed-dev
	$(call stage,the whole suite on Python $(OWN))
	@mkdir -p $(RESULTS)
	$(BIN)/pytest $(PYTEST_ARGS) | tee $(RESULTS)/whole

# The suite of the runtime, so without torch, on the oldest dependencies that pyproject.toml allows ...
test-lowest: $(VENV)/installed-dev
	@mkdir -p build
	$(BIN)/python .ci/lowest.py > build/lowest.txt
	$(call runtime_suite,lowest,3.10 3.11,-c build/lowest.txt)

# ... and on the newest when it was installed, on each Python but the one that runs the whole suite.
test-pythons: $(addprefix test-python-,$(filter-out $(OWN),$(PYTHONS)))

test-python-%:
	$(call runtime_suite,$*,$*,--upgrade --upgrade-strategy eager)

# An environment of the runtime; PIP_ARGS constrain what is installed.
.venv-%/installed: $(VENV)/sources $(SOURCES)
	test -e $(@D)/made || $(RUNTIME_PYTHON) -m venv --clear $(@D)
	touch $(@D)/made
	$(@D)/bin/pip install -qq $(PIP_ARGS) ".[test]"
	touch $@

# Times this package beside other runtimes and under load, for about half an hour; nothing else should
# run. BENCH_ARGS="--help" lists the options. Started in tests/, so that no source is taken for the package.
bench: $(VENV)/installed-dev
	cd tests && $(abspath $(BIN))/python -m benchmarks.page --out ../bench-out $(BENCH_ARGS)

# The documentation site, in build/site; a warning is an error.
docs: $(VENV)/installed-docs
	$(call stage,documentation)
	$(BIN)/python docs/site.py build/docs
	$(BIN)/mkdocs build --quiet --strict -f docs/mkdocs.yml

# For a machine with an NVIDIA GPU; see docs/hardware/README.md.
gpu: $(VENV)/installed-dev
	PATH="$(abspath $(BIN)):$$PATH" docs/hardware/run.sh

# The aarch64 wheel and a part of the runtime's suite, run by QEMU; as root, on Debian 12. See docs/jetson.md.
arm64:
	.ci/arm64

lint: $(VENV)/installed-dev
	$(call stage,lint)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Misspellings and British spellings; [tool.codespell] in pyproject.toml names the dictionaries.
spell: $(VENV)/installed-dev
	$(call stage,spell)
	$(BIN)/codespell

# The installed package is checked: only there do the packages stand under their imported names.
types: $(VENV)/installed-dev
	$(call stage,types)
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p esccs_edge
	cd $(VENV) && MYPYPATH=../tests bin/mypy --config-file ../tests/mypy.ini ../tests

# Judges the recipe by cross-validation and makes the model that ships with the package again, from the
# sample data (about two hours on two cores; stopped, it goes on where it stood).
DATA ?= ../shared/data
RECIPE = --config training/configs/eurosat.toml --data eurosat:$(DATA)/eurosat-ms \
	--set real_pairs.data=sen12ms-cr:$(DATA)/sen12ms-cr/triplets.npz \
	--set clouds.textures=$(DATA)/sen12ms-cr/cloudy-clear
model: $(VENV)/installed-dev
	$(BIN)/esccs-edge cross-validate $(RECIPE) --folds 4 --judge $(DATA)/sen12ms-cr/judge.npz \
		--out runs/folds
	$(BIN)/esccs-edge train $(RECIPE) --set folds.count=1 --set cross_validation=runs/folds/report.json \
		--out runs/eurosat $$(test ! -e runs/eurosat/options.json || echo --resume)
	$(BIN)/esccs-edge export runs/eurosat/bundle
	$(BIN)/esccs-edge calibrate runs/eurosat/bundle runs/eurosat/heldout/index.csv
	cd runs && ../$(BIN)/python -c "from esccs_edge import Bundle; \
		from esccs_edge.export.to_fp16 import add_float16; add_float16(Bundle.open('eurosat/bundle')) \
		.copy('../esccs_edge/models/default', without=['student.safetensors'])"

# Makes the land cover model that ships with the package again: data, training, INT8 (under an hour on
# one quiet core).
land-cover: $(VENV)/installed-dev
	test -e runs/land/index.csv || $(BIN)/python docs/land_cover.py --eurosat $(DATA)/eurosat-ms \
		--triplets $(DATA)/sen12ms-cr/triplets.npz --out runs/land
	$(BIN)/esccs-edge train --config training/configs/land-cover.toml --data runs/land/index.csv \
		--set clouds.textures=$(DATA)/sen12ms-cr/cloudy-clear --out runs/land-cover \
		$$(test ! -e runs/land-cover/options.json || echo --resume)
	$(BIN)/esccs-edge export runs/land-cover/bundle
	$(BIN)/esccs-edge calibrate runs/land-cover/bundle runs/land-cover/heldout/index.csv
	cd runs && ../$(BIN)/python -c "from esccs_edge import Bundle; Bundle.open('land-cover/bundle') \
		.copy('../esccs_edge/models/land-cover', without=['student.safetensors'])"

# Makes the crop series model: training, INT8, its bundle, example and card (minutes on a quiet core).
crop-series: $(VENV)/installed-dev
	$(BIN)/esccs-edge train --config training/configs/worldcereal.toml --set name=crop-series \
		--set baselines=false --data worldcereal:$(DATA)/worldcereal/2023_FRA_LPIS_POLY_110.geoparquet \
		--out runs/crop-series $$(test ! -e runs/crop-series/options.json || echo --resume)
	$(BIN)/esccs-edge export runs/crop-series/bundle
	$(BIN)/esccs-edge calibrate runs/crop-series/bundle runs/crop-series/heldout/index.csv
	cd runs && ../$(BIN)/python -c "from esccs_edge import Bundle; \
		Bundle.open('crop-series/bundle') \
		.copy('../esccs_edge/models/crop-series', without=['student.safetensors'])"
	$(BIN)/python docs/crop_series_card.py

wheel: $(VENV)/made
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist \
		--config-settings cmake.define.ESCCS_CUDA_ARCHITECTURES=all .
	@ls -l dist

clean:
	rm -rf .venv .venv-* build dist demo-out bench-out .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

$(VENV)/made:
	$(PYTHON) -m venv $(VENV)
	touch $@

# Changes when a source is added or removed, which the time of the other files does not tell.
$(VENV)/sources: $(VENV)/made always
	@echo "$(LISTING)" | cmp -s - $@ || echo "$(LISTING)" > $@

$(VENV)/installed-runtime: $(VENV)/sources $(SOURCES)
	$(call stage,installing the runtime and compiling its pixel module; this takes minutes)
	$(BIN)/pip install --quiet ".[geo,view]"
	touch $@

$(VENV)/installed-dev: $(VENV)/sources $(SOURCES)
	$(call stage,installing everything; this takes minutes)
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet ".[dev]"
	touch $@ $(VENV)/installed-runtime

# Only what the extra adds: the package itself is there.
$(VENV)/installed-docs: $(VENV)/installed-dev
	$(BIN)/pip install --quiet "esccs-edge[docs]"
	touch $@
