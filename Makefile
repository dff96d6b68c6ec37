# Everything there is to learn: make setup build demo test check bench fuzz stage clean.
# BUILD names the build folder, STAGE where the product is installed to be run in place.
BUILD ?= build
STAGE ?= $(CURDIR)/stage
PYTHON ?= /usr/bin/python3
MAKEFLAGS += --no-print-directory

.PHONY: menu setup build stage images demo test test-unit test-integration test-vm check bench fuzz clean

menu:
	@echo 'Caged: coding agents in microVMs, watched. Targets:'
	@echo '  make setup   install the packages that building and running need (asks apt; safe to repeat)'
	@echo '  make demo    set up, build, make the image, run a sandbox from start to end'
	@echo '  make test    build with sanitizers, run unit, integration and guest tests'
	@echo '  make build   compile into $(BUILD)/ and install into stage/'
	@echo '  make check   the gates: format, tidy, layers, sizes, both compilers'
	@echo '  make bench   measure, with yardsticks; tables go to bench/results/'
	@echo '  make fuzz    fuzz the parsers for a minute each (FUZZ_SECONDS)'
	@echo '  make stage   install into $(STAGE): stage/bin/caged works in place'
	@echo '  make clean   remove what was built'

setup:
	@scripts/setup

$(BUILD)/build.ninja:
	@meson setup $(BUILD) --prefix=$(STAGE) --libdir=lib $(MESON_OPTIONS) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

build: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet
	@meson install -C $(BUILD) --no-rebuild --only-changed --quiet

stage: build

images: stage
	@stage/bin/caged image build minimal

demo: setup build images
	@stage/bin/caged demo

test: build
	@scripts/test all

test-unit test-integration test-vm: build
	@scripts/test $(@:test-%=%)

check: build
	@scripts/gates/run

bench: build images
	@$(PYTHON) tests/bench/run.py

fuzz:
	@scripts/fuzz

clean:
	@rm -rf build build-* stage
