# One command for each thing a person does with the checkout; `make` alone lists them.
#
# Everything is made inside the checkout: the virtual environment in .venv, objects in build.
# Stamps (.venv/*.stamp, build/*.stamp) remember what is done, so that repeats are quick; the
# extension is compiled again when a C source, a header or setup.py changed, or when somebody
# else replaced it. What the host lacks is said in one sentence before anything is made.
#
# Two builds of the extension stand side by side:
#   shmkv/_core.abi3.so               the release, in place: what `import shmkv` loads
#   build/fault/shmkv/_core.abi3.so   the same sources with KV_FAULT=1 (the FAULT(name) points are
#                                     alive): the crash tests load it by its path
# Other builds by hand: SHMKV_BUILD=debug|asan|tsan|cov .venv/bin/python setup.py build_ext -i;
# the next `make build` puts the release back.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# A virtual environment whose Python is gone (upgraded, moved) is made again.
STALE := $(shell $(PY) -c '' 2>/dev/null || echo FORCE)
CSRC := shmkv/_csrc $(wildcard shmkv/_csrc/*.[ch]) setup.py
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help host venv build demo test bench hitratio peers disk survival torture coverage model lint clean distclean FORCE

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

# ---- the host ---------------------------------------------------------------------------------

# Runs under whatever Python there is, so it is written for old ones. It compiles what the
# extension includes rather than looking for files: only that proves the headers usable.
define HOST_CHECK
import os, shlex, subprocess, sys, sysconfig
name = os.path.basename(sys.argv[1])
if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
    sys.exit("shmkv needs CPython 3.11 or newer and '%s' is %s %s: "
             "call make with PYTHON=/path/to/python3.11."
             % (name, sys.implementation.name, sys.version.split()[0]))
compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "gcc")
def compiles(source):
    flags = ["-fsyntax-only", "-xc", "-I" + sysconfig.get_path("include"), "-"]
    try:
        done = subprocess.run(compiler + flags, input=source, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return done.returncode == 0
missing = []
if not compiles(b"int main(void) { return 0; }"):
    missing.append(("a C compiler (%s)" % compiler[0], "gcc libc6-dev"))
elif not compiles(b"#include <stdlib.h>\n#include <linux/futex.h>"):
    missing.append(("the headers of the C library", "libc6-dev"))
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    missing.append(("Python.h", name + "-dev"))
try:
    from ensurepip import bootstrap
    from venv import EnvBuilder
except ImportError:
    missing.append(("the venv module", name + "-venv"))
if missing:
    what = " and ".join(what for what, _ in missing)
    fix = " ".join(package for _, package in missing)
    sys.exit("shmkv cannot be built here for want of %s: "
             "run 'apt-get install %s' as root (Debian)." % (what, fix))
endef
export HOST_CHECK

host:
	@test "$$(uname -s)" = Linux || { \
	  echo "shmkv runs on Linux only (this is $$(uname -s)): use a Linux host or container." >&2; \
	  exit 1; }
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no '$(PYTHON)' here: run 'apt-get install python3 python3-dev python3-venv'" \
	    "as root (Debian), or call make with PYTHON=/path/to/python3.11." >&2; \
	  exit 1; }
	@"$(PYTHON)" -c "$$HOST_CHECK" "$(PYTHON)"

# ---- the virtual environment ------------------------------------------------------------------

# --no-build-isolation and SHMKV_BUILD=none: installing the package links its Python part only;
# the extension is compiled by the rules below, where its messages can be seen.
INSTALL := PYTHONWARNINGS=ignore SHMKV_BUILD=none $(PIP) install --no-build-isolation --editable

$(VENV)/made.stamp: $(STALE) | host
	@echo "making $(VENV)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@$(PIP) install --upgrade pip 'setuptools>=77' wheel
	@touch $@

$(VENV)/demo.stamp: $(VENV)/made.stamp pyproject.toml
	@echo "installing what the demo needs"
	@$(INSTALL) '.[demo]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/made.stamp pyproject.toml
	@echo "installing what the tests and the demo need"
	@$(INSTALL) '.[dev,demo]'
	@touch $(VENV)/demo.stamp $@

$(VENV)/bench.stamp: $(VENV)/dev.stamp
	@echo "installing what the benchmark needs"
	@$(INSTALL) '.[bench]'
	@touch $@

$(VENV)/peers.stamp: $(VENV)/dev.stamp
	@echo "installing what the comparison needs"
	@$(INSTALL) '.[peers]'
	@touch $@

venv: $(VENV)/dev.stamp ## make .venv with everything the tests and the demo need

# ---- the extension ----------------------------------------------------------------------------

# The stamp is younger than the file it speaks of; if it is not, someone else built that file.
RELEASE := $(wildcard shmkv/_core*.so)
FAULT := $(wildcard build/fault/shmkv/_core*.so)

build/release.stamp: $(CSRC) $(or $(RELEASE),FORCE) | $(VENV)/made.stamp
	@echo "compiling shmkv._core"
	@SHMKV_BUILD=release $(PY) setup.py --quiet build_ext --inplace --build-temp build/release-temp
	@touch $@

build/fault.stamp: $(CSRC) $(or $(FAULT),FORCE) | $(VENV)/made.stamp
	@echo "compiling shmkv._core with fault points"
	@SHMKV_BUILD=fault $(PY) setup.py --quiet build_ext --build-lib build/fault \
	  --build-temp build/fault-temp
	@touch $@

build: build/release.stamp build/fault.stamp ## compile the extension: as it ships, and with faults

# ---- what people come for ---------------------------------------------------------------------

demo: $(VENV)/demo.stamp build/release.stamp ## a web application: no cache, dicts, shmkv
	@$(PY) -m examples.webapp.demo

test: lint build ## format, lint, types, and every test in its quick form
	$(PY) -m tests.run

lint: $(VENV)/dev.stamp build/release.stamp ## format, lint and types only
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy shmkv examples
	$(PY) -m mypy.stubtest shmkv._core

hitratio: $(VENV)/peers.stamp build/release.stamp ## what stays in the cache: traces, mixes, phases (SHMKV_TRACES=folder)
	$(PY) -m tests.bench.hitratio --rivals

peers: $(VENV)/peers.stamp build/release.stamp ## beside lmdb, Redis, memcached, uWSGI, APCu...: tables, chart
	$(PY) -m tests.bench.peers

disk: $(VENV)/peers.stamp build/release.stamp ## snapshots, journal, restart beside Redis, lmdb, pickle, a bare write
	$(PY) -m tests.bench.disk

bench: $(VENV)/bench.stamp build/release.stamp ## nanoseconds per call beside a dict and lmdb
	$(PY) -m tests.bench

survival: $(VENV)/peers.stamp build/release.stamp ## kill the users of shmkv and of what others take
	$(PY) -m tests.bench.survival

torture: $(VENV)/dev.stamp build ## the reliability harnesses for an hour (SHMKV_TORTURE_SECONDS)
	$(PY) -m tests.torture

coverage: $(VENV)/dev.stamp build ## branches of the C core that the tests take
	$(PY) -m tests.coverage

model: $(VENV)/dev.stamp ## explore the concurrency protocol to its end (4 GB, minutes)
	SHMKV_MODEL=full $(PY) -m pytest tests/model_protocol -q

clean: ## remove what was built; keep .venv
	rm -rf build dist *.egg-info shmkv/_core*.so .mypy_cache .ruff_cache .hypothesis
	find shmkv tests examples -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove everything that was made, .venv included
	rm -rf $(VENV)
