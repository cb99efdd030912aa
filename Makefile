PYTHON ?= python3
BIN := .venv/bin
INPUTS := pyproject.toml constraints-dev.txt src/vaccel/_version.py

.PHONY: help demo test test-environments test-native test-cocotb test-pynq test-tensorflow test-protobuf test-armhf test-soak test-fp32 bench train format clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 20

demo: .venv/.installed ## install, start an agent, let it add vectors and look at pictures
	$(BIN)/python -m vaccel.cli.demo

test: .venv/.dev ## install, then check format, lint and types, and run the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

test-environments: .venv/.dev ## the tests that need environments of their own; CI runs test, then this
	$(MAKE) -j2 --output-sync=target test-armhf test-native # as long as each other
	$(MAKE) test-soak # alone, as it measures memory

test-native:
	$(MAKE) test-cocotb
	$(MAKE) test-pynq
	$(MAKE) test-protobuf

test-cocotb: .venv/.dev ## the kernels against AXI models of cocotbext-axi
	PYTHON=$(PYTHON) tools/cocotb_tests.sh

test-pynq: .venv/.dev ## stock pynq, as on the board, against the simulated fabric
	PYTHON=$(PYTHON) tools/pynq_tests.sh

test-tensorflow: ## the plugin tf on TensorFlow itself, which is 2 GB
	PYTHON=$(PYTHON) tools/tensorflow_tests.sh

test-fp32: .venv/.dev ## 100 million pairs through the floating-point units
	$(BIN)/python tools/fp32_soak.py

test-protobuf: .venv/.dev ## protocol, agent and unit tests on old releases of protobuf
	PYTHON=$(PYTHON) tools/protobuf_matrix.sh

test-armhf: .venv/.dev ## the same tests, and an agent, on an emulated 32-bit ARM
	tools/armhf.sh

test-soak: .venv/.dev ## 16 clients at one agent's models for a minute
	$(BIN)/python tools/models_soak.py

bench: .venv/.installed ## measure remote calls against raw sockets, and the simulated board
	$(BIN)/python benchmarks/remote.py
	$(BIN)/python benchmarks/fpga.py
	$(BIN)/python benchmarks/inference.py

train: .venv/.dev ## train the five small models of the plugin onnx anew
	$(BIN)/python -m training.train

format: .venv/.dev ## put the source into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove everything the targets above made
	rm -rf .venv .venv-cocotb .venv-pynq .venv-tensorflow build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo >&2 \
	  '$(PYTHON) cannot make virtual environments: install python3-venv (sudo apt-get install python3-venv)'; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python $(INPUTS)
	$(BIN)/pip install --quiet -c constraints-dev.txt -e '.[sim,onnx]'
	@touch $@

.venv/.dev: .venv/bin/python $(INPUTS)
	$(BIN)/pip install --quiet -c constraints-dev.txt -e '.[dev,sim,synth,onnx,openvino,opencv,tflite,torch]'
	@touch .venv/.installed $@
