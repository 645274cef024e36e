# The two commands are `make demo` and `make test`; both build .venv first, which takes no time once it stands.
# They need python3 (3.10 or newer, with venv), a C compiler, make, and PyPI for the first run.

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
BUILT := $(VENV)/.built-from
# What the extension and the environment are made from: a change of any of these rebuilds them.
SOURCES := pyproject.toml setup.py examples/gofer/pyproject.toml examples/gofer/setup.py proto/flipcall.h $(wildcard flipcall/core/*.[ch]) $(wildcard flipcall/core/*.py) $(wildcard flipcall/hotpath/*.[ch]) \
	$(wildcard examples/gofer/src/gofer/fuse/rows/*.[ch]) examples/gofer/src/gofer/fuse/rows/build.py

comma := ,
# pyfuse3 is built against libfuse3 (Debian: libfuse3-dev, pkg-config); without it there is no mount, and its tests skip.
GOFER_EXTRAS := readers$(shell pkg-config --exists fuse3 2>/dev/null && echo $(comma)fuse)
CTEST_DIR := build/ctest
CTEST_FLAGS := -std=gnu11 -O1 -g -Wall -Wextra -Wno-unused-parameter -Werror -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=all -pthread -Iproto -Iflipcall/core
# Every file in tests/core is a program, linked with the core. Those in which both sides run at once are built again
# for the thread sanitizer.
TSAN_FLAGS := $(subst -fsanitize=address$(comma)undefined,-fsanitize=thread,$(CTEST_FLAGS))
TSAN_TESTS := $(patsubst %,$(CTEST_DIR)/%-tsan,flips items split doorbell)
CTESTS := $(patsubst tests/core/%.c,$(CTEST_DIR)/%,$(wildcard tests/core/*.c))
CORE_C := $(wildcard flipcall/core/*.c)
CORE_H := $(wildcard flipcall/core/*.h) proto/flipcall.h

# The stress is one program of several files, linked with the core, and once more with the thread sanitizer.
STRESS_DIR := build/stress
STRESS_C := $(wildcard tests/stress/*.c)
STRESS_H := $(wildcard tests/stress/*.h)
STRESS_FLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -pthread -Iproto -Iflipcall/core -Itests/stress \
	$(if $(wildcard flipcall/core/switch_swap.c),-DSTRESS_SWAP)
STRESS_SECONDS ?= 300

# Another processor: Debian's cross compiler, statically linked, run by qemu as LL/SC and as LSE machine.
ARM_DIR := build/aarch64
ARM_CC := aarch64-linux-gnu-gcc
ARM_RUN := qemu-aarch64
ARM_FLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -static -pthread -Iproto -Iflipcall/core
ARM_TESTS := $(patsubst tests/core/%.c,$(ARM_DIR)/%,$(wildcard tests/core/*.c)) $(ARM_DIR)/stress
ARM_CPUS := cortex-a57 max
ARM_STRESS ?= --seconds 5 --patience 30

.PHONY: help venv demo model test test-swap guest-programs lint types ctest ctest-tsan stress stress-programs
.PHONY: test-aarch64 aarch64-run reference pytest clean

help:
	@echo "make demo [DIR=...]  read a directory tree through the gofer and measure a call (default: this tree)"
	@echo "make test            linters, type checkers, C tests, pytest"
	@echo "make stress          flips, kills, deadlines and shutdowns at random, for STRESS_SECONDS=$(STRESS_SECONDS), then races"
	@echo "                     in the gofer's tree for 30 s"
	@echo "make test-aarch64    the C tests and a stress of the core on emulated aarch64"
	@echo "make model           the model of flipping control, checked by spin (minutes)"
	@echo "make test-swap       the swap switch, in a guest whose kernel has FUTEX_SWAP [KERNEL=bzImage] (minutes)"
	@echo "make reference       docs/reference.md anew from the docstrings"
	@echo "make venv            the environment both use, in $(VENV)"
	@echo "make clean           remove what was built"

venv: $(BUILT)
	@:

# pip alone knows whether an environment is whole, and takes seconds to say so: hence the stamp, written last.
$(BUILT): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' --editable 'examples/gofer[$(GOFER_EXTRAS)]'
	@touch $@

demo: venv
	$(BIN)/python -m gofer.demo $(DIR)

# What one CPU can do while the other is busy, then what wants both.
test: venv
	$(MAKE) --no-print-directory -j2 lint types ctest ctest-tsan
	$(MAKE) --no-print-directory pytest

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: venv
	$(BIN)/mypy
	$(BIN)/pyright

# The whole table; needs Debian's spin. tests/model/ runs a sample of it.
model:
	proto/model/check

# Every program runs, and the first that fails stops make. None at all is said aloud, not passed over.
ctest: $(CTESTS)
	@[ -n "$(CTESTS)" ] || echo "ctest: no tests in tests/core yet"
	@for program in $(CTESTS); do echo "ctest: $$program"; ./$$program || exit 1; done

$(CTEST_DIR)/%: tests/core/%.c $(CORE_C) $(CORE_H) $(wildcard tests/core/*.h)
	@mkdir -p $(@D)
	$(CC) $(CTEST_FLAGS) -o $@ $< $(CORE_C)

ctest-tsan: $(TSAN_TESTS)
	@for program in $(TSAN_TESTS); do echo "ctest-tsan: $$program"; ./$$program || exit 1; done

$(CTEST_DIR)/%-tsan: tests/core/%.c tests/core/check.h $(CORE_C) $(CORE_H)
	@mkdir -p $(@D)
	$(CC) $(TSAN_FLAGS) -o $@ $< $(CORE_C)

# In a guest under qemu; says so and passes where there is no kernel for it (proto/kernel/README.md).
test-swap:
	@SWAP_KERNEL="$(or $(KERNEL),$(SWAP_KERNEL))" MAKE="$(MAKE)" proto/kernel/test-swap

GUEST_DIR := build/guest
GUEST_FLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -pthread -Iproto -Iflipcall/core

guest-programs: venv $(CTESTS) $(STRESS_DIR)/stress $(GUEST_DIR)/swaptest $(GUEST_DIR)/placement

$(GUEST_DIR)/swaptest: proto/kernel/swaptest.c
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -o $@ $<

$(GUEST_DIR)/placement: tests/switch/guest/placement.c $(CORE_C) $(CORE_H)
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -o $@ $< $(CORE_C)

stress-programs: $(STRESS_DIR)/stress $(STRESS_DIR)/stress-tsan

stress: venv stress-programs
	$(BIN)/python -m tests.stress --seconds $(STRESS_SECONDS)
	GOFER_ATTACK_SECONDS=30 $(BIN)/python -m pytest -q tests/gofer/test_gofer_races.py -k race

$(STRESS_DIR)/stress: $(STRESS_C) $(STRESS_H) $(CORE_C) $(CORE_H)
	@mkdir -p $(@D)
	$(CC) $(STRESS_FLAGS) -o $@ $(STRESS_C) $(CORE_C)

$(STRESS_DIR)/stress-tsan: $(STRESS_C) $(STRESS_H) $(CORE_C) $(CORE_H)
	@mkdir -p $(@D)
	$(CC) $(STRESS_FLAGS) -O1 -fsanitize=thread -o $@ $(STRESS_C) $(CORE_C)

# cortex-a57 has no LSE instructions and takes the LL/SC half of each atomic, max takes the other.
test-aarch64:
	@if command -v $(ARM_CC) >/dev/null && command -v $(ARM_RUN) >/dev/null && \
		echo '#include <stdio.h>' | $(ARM_CC) -E - >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory aarch64-run; \
	else \
		echo "test-aarch64: skipped: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"; \
	fi

aarch64-run: $(ARM_TESTS)
	@for cpu in $(ARM_CPUS); do for program in $(ARM_TESTS); do \
		echo "aarch64 $$cpu: $$program"; \
		arguments="$$(case $$program in */stress) echo "$(ARM_STRESS)";; esac)"; \
		FLIPCALL_TEST_SLOW=3 FLIPCALL_TEST_EMULATOR=$(ARM_RUN) $(ARM_RUN) -cpu $$cpu $$program $$arguments || exit 1; \
	done; done

$(ARM_DIR)/stress: $(STRESS_C) $(STRESS_H) $(CORE_C) $(CORE_H)
	@mkdir -p $(@D)
	$(ARM_CC) $(ARM_FLAGS) -Itests/stress -o $@ $(STRESS_C) $(CORE_C)

$(ARM_DIR)/%: tests/core/%.c $(CORE_C) $(CORE_H) $(wildcard tests/core/*.h)
	@mkdir -p $(@D)
	$(ARM_CC) $(ARM_FLAGS) -o $@ $< $(CORE_C)

reference: venv
	$(BIN)/python -m tests.reference

# These say what is right whatever else runs; the others measure, place themselves, or ask what a CPU is used for. One file
# at a time, since fixtures of a file are shared.
SIDE_BY_SIDE := tests/asyncio tests/conformance tests/gofer

pytest: venv
	$(BIN)/python -m pytest -n 2 --dist loadfile $(SIDE_BY_SIDE)
	$(BIN)/python -m pytest $(addprefix --ignore=,$(SIDE_BY_SIDE))

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f flipcall/_core*.so flipcall/_core.c flipcall/_core.o examples/gofer/src/gofer/fuse/rows/_rows*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
