# make bench      train ResNet-20 on digits over two ranks and show throughput and time to accuracy
# make test       run all tests but those that need a real Slurm
# make test-fast  run those that start no ranks and interpret no kernels: a minute on two cores
# make test-exporters  run the tests of results.exporters with the libraries that it speaks to, in .venv-exporters
# make test-page  run the tests of the page in a browser; installs Debian's Chromium where there is none (root)
# make soak       run what takes minutes to find what is rare: damaged checkpoints, killed saves, ends of runs at 30 moments
# make slurm-up   bring up a Slurm of four nodes on this machine, to try the launcher on (root on Debian or Ubuntu)
# make slurm-down take it down
# make test-slurm run the tests that need a real Slurm on one of their own
# make gpu        everything that wants a GPU, in parts that can be resumed: tests, times, rows (see python -m bench.gpu help)
# make check      ruff (lint and format) and mypy

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.complete

.PHONY: bench test test-fast test-exporters test-page soak slurm-up slurm-down test-slurm gpu check setup clean
.DELETE_ON_ERROR:

bench: setup
	@$(RUN) launch/local.py depth=20 dataset=digits

# Two at a time, each on a core of its own: what starts no ranks, and interpreted kernels, which share nothing. Ranks have
# both cores.
TWO := OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 --dist=loadfile
test: setup
	@$(TWO) -m "not (ranks or interpreted or soak)"; without=$$?; \
	  $(RUN) -m pytest -q -m "ranks and not soak"; ranks=$$?; \
	  $(TWO) -m "interpreted and not (ranks or soak)" && exit $$((without | ranks))

test-fast: setup
	@$(TWO) -m "not (ranks or interpreted or slurm or slow or soak)"

# What these libraries require would replace packages of $(VENV): they have an environment that sees its packages behind
# their own, and it sees none of theirs.
EXPORTERS := .venv-exporters
TRACKERS := wandb|trackio|mlflow|tensorboard
test-exporters: setup
	@flock .setup.lock $(MAKE) --no-print-directory $(EXPORTERS)/.complete
	@RESNET_BENCH_EXPORTERS=1 $(EXPORTERS)/bin/python -m pytest -q tests/results/exporters

$(EXPORTERS)/.complete: pyproject.toml constraints.txt $(STAMP)
	@rm -f $@
	@$(RUN) -m venv --clear $(EXPORTERS)
	@grep -E '^($(TRACKERS))==' constraints.txt > $(EXPORTERS)/trackers.txt
	@$(EXPORTERS)/bin/python -m pip install -q --disable-pip-version-check -r $(EXPORTERS)/trackers.txt
	@$(RUN) -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' > behind.pth && \
	  mv behind.pth "$$($(EXPORTERS)/bin/python -c 'import site; print(site.getsitepackages()[0])')"
	@touch $@

test-page: setup
	@command -v chromium >/dev/null || \
	  { apt-get update -q && apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core; } >/dev/null
	@RESNET_BENCH_BROWSER=1 $(RUN) -m pytest -q tests/results/report/page/test_browser.py

soak: setup
	@$(RUN) -m pytest -q -m soak -o addopts="--import-mode=importlib -ra --strict-markers -s"

slurm-up: setup
	@$(RUN) tests/slurm/make_slurm.py up

# It needs nothing of $(VENV), which may be gone by now.
slurm-down:
	@if [ -x $(RUN) ]; then python=$(RUN); else python="$(PYTHON)"; fi; "$$python" tests/slurm/make_slurm.py down

# Words of pytest: make test-slurm TESTS="-k power"
test-slurm: setup
	@$(RUN) tests/slurm/make_slurm.py test $(TESTS)

# A GPU machine may have no network: what is installed there will do, as long as it has torch and Triton.
gpu:
	@if [ -f $(STAMP) ]; then python=$(RUN); else python="$(PYTHON)"; fi; "$$python" -m bench.gpu $(GPU)

check: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# One at a time: `make bench` and `make test` may be started together on a fresh machine.
setup:
	@command -v flock >/dev/null || { echo "make: no flock here; install util-linux" >&2; exit 1; }
	@[ -w . ] || { echo "make: cannot write to $$PWD, where $(VENV) would lie: copy the checkout" >&2; exit 1; }
	@flock -n .setup.lock true || echo "make: another make fills $(VENV) here; this one waits for it" >&2
	@flock .setup.lock $(MAKE) --no-print-directory $(STAMP)

# Without the stamp whatever is there was interrupted, or is for other requirements: begin again.
$(STAMP): pyproject.toml constraints.txt setup_venv.py
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make: $(PYTHON) is not Python 3.11 or newer: say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || \
	  { echo "make: $(PYTHON) makes no environments: it has no ensurepip (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@[ ! -L $(VENV) ] || { echo "make: $(VENV) is a link to $$(readlink $(VENV)), which would be emptied: remove the link" >&2; exit 1; }
	@rm -f $@
	@"$(PYTHON)" setup_venv.py $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) $(EXPORTERS) .setup.lock
