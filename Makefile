# make demo | make test: everything they need is set up first (system packages, .venv, the compiled extension).
# Needs Debian 12 or a relative, and root for packages and network namespaces.

PY := .venv/bin/python
COMPILED := $(shell find nfqfw bench netns tests -name '*.pyx' -o -name '*.pxd' 2>/dev/null)
TEST_MINUTES ?= 50
PYTEST_ARGS ?=

.PHONY: help demo test build setup bench readme clean oracle oracle-full

help:
	@echo "make demo    set up, build, and show nfqfw filtering real traffic between three namespaces"
	@echo "make test    set up, build, and run all tests (PYTEST_ARGS='-k word' runs some)"
	@echo "make build   set up and build only"
	@echo "make bench   all benchmarks, a quarter of an hour (ARGS=--quick: do they work? ARGS=rules: one of them)"
	@echo "make oracle  record the kernel's answers anew (root); CASE=seed shows the kernel's and ours for one case"
	@echo "make oracle-full  100,000 random cases beside the kernel (root), JOBS=2 parts at a time, resumable"
	@echo "make fuzz    every fuzzer for SECONDS=60, coverage-guided, under the sanitizers; TARGET=rules runs one"
	@echo "make asan    the test-suite with the extension under ASan and UBSan; TESTS='tests/engine' runs some"
	@echo "make clean   remove .venv and everything built"

setup:
	@./bootstrap.sh run

build: setup .venv/built

# setup.py recompiles what changed and nothing else; the stamp saves its start when nothing did
.venv/built: $(COMPILED) setup.py pyproject.toml
	@echo "building what changed (the first time: about a minute)"
	@$(PY) setup.py build_ext --inplace --parallel 2 >.venv/build.log 2>&1 || { tail -n 40 .venv/build.log; exit 1; }
	@touch $@

demo: build
	@.venv/bin/nfqfw demo $(ARGS)

test:
	@./bootstrap.sh test
	@$(MAKE) --no-print-directory .venv/built
	@timeout --foreground --kill-after=30s $(TEST_MINUTES)m $(PY) -m pytest --timeout=300 -rs $(PYTEST_ARGS)

bench:
	@./bootstrap.sh test
	@$(MAKE) --no-print-directory .venv/built
	@$(PY) -m bench $(ARGS)

readme: build
	@PYTHONPATH=. $(PY) tests/cli/test_readme.py
	@$(PY) -m bench report

clean:
	rm -rf .venv build dist *.egg-info
	find nfqfw -name '*.so' -delete
	find nfqfw -name '*.c' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

# fuzzers and sanitizers (tests/fuzz/README.md): SECONDS=60 for each, SEED=1, TARGET=engine,messages,rules,... (default: all)
fuzz: setup
	@./bootstrap.sh test
	@$(PY) -c 'import atheris' 2>/dev/null || $(PY) -m pip install -qq --disable-pip-version-check "atheris>=3.0"
	@$(PY) -m tests.fuzz.run fuzzer --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1) $(if $(TARGET),--target $(TARGET))

# the test-suite under gcc's ASan and UBSan, a quarter of an hour on an idle machine (TESTS='tests/engine -k word' runs some), then random stories for SECONDS
asan:
	@./bootstrap.sh test
	@$(PY) -m tests.fuzz.run tests $(TESTS)
	@$(PY) -m tests.fuzz.run asan --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

.PHONY: fuzz asan oracle oracle-full

# the kernel as the oracle (root, iptables-legacy): record its answers anew; CASE=seed shows both answers (OUT=folder: and
# writes the smallest case that differs); oracle-full: 100,000 cases live in parts, JOBS=2 at a time, resumable (build/oracle-full)
ORACLE := tests/oracle/kernel.bin --unsupported tests/oracle/unsupported.toml

oracle:
	@./bootstrap.sh test
	@$(MAKE) --no-print-directory .venv/built
	@$(PY) -m nfqfw.selftest $(if $(CASE),case --seed $(CASE) $(if $(OUT),--out $(OUT)),record) $(ORACLE)

oracle-full:
	@./bootstrap.sh test
	@$(MAKE) --no-print-directory .venv/built
	@$(PY) -m nfqfw.selftest full build/oracle-full --count $(or $(COUNT),100000) --seed $(or $(SEED),2000000) \
		$(if $(JOBS),--jobs $(JOBS)) --unsupported tests/oracle/unsupported.toml
