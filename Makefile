# Everything there is to learn: make setup build demo test check bench fuzz stage clean.
# BUILD names the build folder, STAGE where the product is installed to be run in place; with a BUILD
# of your own you get a stage of your own, so several people can work in one tree.
BUILD ?= build
STAGE ?= $(if $(filter build,$(BUILD)),$(CURDIR)/stage,$(abspath $(BUILD))/stage)
PYTHON ?= /usr/bin/python3
MAKEFLAGS += --no-print-directory
export BUILD STAGE PYTHON
export CAGED_STAGE := $(STAGE)

.PHONY: menu setup build stage deb images demo test test-unit test-integration test-vm test-e2e test-contract contract-coverage test-dashboard check bench bench-gateway bench-clones fuzz clean

menu:
	@echo 'Caged: coding agents in microVMs, watched. Targets:'
	@echo '  make setup   install the packages that building and running need (safe to repeat)'
	@echo '  make demo    set up, build, make the image, run a sandbox from start to end'
	@echo '  make build   compile into $(BUILD)/ and install into the stage'
	@echo '  make stage   the same: $(patsubst $(CURDIR)/%,%,$(STAGE))/bin/caged works in place'
	@echo '  make deb     a Debian package of it, in $(BUILD)/'
	@echo '  make test    unit tests with sanitizers, integration tests, tests with real guests'
	@echo '               (test-unit, test-integration, test-vm, test-e2e run one kind;'
	@echo '               test-contract those that docs/contract-coverage.md names)'
	@echo '  make check   the gates: format, layers, sizes, headers, both compilers, three checkers'
	@echo '  make bench   measure, with yardsticks; tables go to bench/results/ (bench-gateway: the LLM gateway alone, bench-clones: create, pause, fork)'
	@echo '  make fuzz    fuzz the parsers for a minute each (FUZZ_SECONDS)'
	@echo '  make clean   remove what was built (images are kept)'

setup:
	@scripts/setup

$(BUILD)/build.ninja:
	@command -v meson >/dev/null || { echo 'meson is missing: run make setup first' >&2; exit 1; }
	@meson setup $(BUILD) --prefix=$(STAGE) --libdir=lib $(MESON_OPTIONS) >$(BUILD).log 2>&1 || { grep ERROR $(BUILD).log || tail -n 20 $(BUILD).log; echo '(whole log: $(BUILD).log; packages come by make setup)'; exit 1; } >&2

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
	@meson install -C $(BUILD) --no-rebuild --only-changed --quiet
	@scripts/build-dashboard $(STAGE)
	@scripts/build-pages $(STAGE)

stage: build

# A Debian package of the stage, in $(BUILD)/.
deb: build
	@scripts/build-deb $(STAGE) $(BUILD)

images: stage
	@$(STAGE)/bin/caged image build minimal

# In this order, whatever -j says.
demo:
	@$(MAKE) setup
	@$(MAKE) images
	@$(STAGE)/bin/caged demo --quick

test: build
	@scripts/test all

test-unit:
	@scripts/test unit

test-dashboard: test-e2e

test-integration test-vm test-e2e test-contract: build
	@scripts/test $(@:test-%=%)

contract-coverage:
	@CAGED_WRITE=1 $(PYTHON) -m pytest -q tests/contract/test_coverage.py

check: build
	@scripts/gates/run

bench: build images
	@$(PYTHON) tests/bench/run.py

# What the LLM gateway adds, beside nginx and Portkey's; and a thousand calls on a dollar.
bench-clones: build images
	@$(PYTHON) tests/bench/blink.py

bench-gateway: build
	@$(PYTHON) tests/bench/gateway.py

fuzz:
	@scripts/fuzz

clean:
	@rm -rf build build-* build*.log stage
