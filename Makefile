# The two commands are `make demo` and `make test`; both build .venv first, which takes no time once it stands.
# They need python3 (3.10 or newer, with venv), a C compiler, make, and PyPI for the first run.

PYTHON ?= python3
CC ?= cc
VENV := .venv
BIN := $(VENV)/bin
BUILT := $(VENV)/.built-from
# What the extension and the environment are made from: a change of any of these rebuilds them.
SOURCES := pyproject.toml setup.py proto/flipcall.h $(wildcard flipcall/core/*.[ch]) $(wildcard flipcall/core/*.py)

comma := ,
CTEST_DIR := build/ctest
CTEST_FLAGS := -std=gnu11 -O1 -g -Wall -Wextra -Wno-unused-parameter -Werror -fno-omit-frame-pointer \
	-fsanitize=address,undefined -fno-sanitize-recover=all -pthread -Iproto -Iflipcall/core
# Every file in tests/core is a program, linked with the core. flips.c is built again for the thread sanitizer.
TSAN_FLAGS := $(subst -fsanitize=address$(comma)undefined,-fsanitize=thread,$(CTEST_FLAGS))
CTESTS := $(patsubst tests/core/%.c,$(CTEST_DIR)/%,$(wildcard tests/core/*.c))
CORE_C := $(wildcard flipcall/core/*.c)
CORE_H := $(wildcard flipcall/core/*.h) proto/flipcall.h

.PHONY: help venv demo model test test-swap guest-programs lint types ctest ctest-tsan pytest clean

help:
	@echo "make demo [DIR=...]  read a directory tree through the gofer and measure a call (default: this tree)"
	@echo "make test            linters, type checkers, C tests, pytest"
	@echo "make model           the model of flipping control, checked by spin (minutes)"
	@echo "make test-swap       the swap switch, in a guest whose kernel has FUTEX_SWAP [KERNEL=bzImage] (minutes)"
	@echo "make venv            the environment both use, in $(VENV)"
	@echo "make clean           remove what was built"

venv: $(BUILT)
	@:

# pip alone knows whether an environment is whole, and takes seconds to say so: hence the stamp, written last.
$(BUILT): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

demo: venv
	$(BIN)/python -m examples.gofer.demo $(DIR)

test: lint types ctest ctest-tsan pytest

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

ctest-tsan: $(CTEST_DIR)/flips-tsan
	@echo "ctest-tsan: $<"; ./$<

$(CTEST_DIR)/flips-tsan: tests/core/flips.c tests/core/check.h $(CORE_C) $(CORE_H)
	@mkdir -p $(@D)
	$(CC) $(TSAN_FLAGS) -o $@ $< $(CORE_C)

# In a guest under qemu; says so and passes where there is no kernel for it (proto/kernel/README.md).
test-swap:
	@SWAP_KERNEL="$(or $(KERNEL),$(SWAP_KERNEL))" MAKE="$(MAKE)" proto/kernel/test-swap

GUEST_DIR := build/guest
GUEST_FLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -pthread -Iproto -Iflipcall/core

guest-programs: venv $(CTESTS) $(GUEST_DIR)/swaptest $(GUEST_DIR)/placement

$(GUEST_DIR)/swaptest: proto/kernel/swaptest.c
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -o $@ $<

$(GUEST_DIR)/placement: tests/switch/guest/placement.c $(CORE_C) $(CORE_H)
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -o $@ $< $(CORE_C)

pytest: venv
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f flipcall/_core*.so flipcall/_core.c flipcall/_core.o
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
