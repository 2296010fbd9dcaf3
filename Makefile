# make demo | reproduce | test | lint | lab | figures | install: each sets the environment up first if it has to, then runs.
# Inside an active conda environment (not base) that environment is used, otherwise .venv is made here.

PYTHON3 ?= python3
# Also corruptions (425 MB) and pretrain: make test EXTRAS=dev,corruptions
EXTRAS ?= dev
ifneq ($(and $(CONDA_PREFIX),$(filter-out base,$(CONDA_DEFAULT_ENV))),)
  ENV := $(CONDA_PREFIX)
else
  ENV := .venv
endif
PYTHON := $(ENV)/bin/python
# The name holds a hash of what decides the environment: it is set up again when that changes, and only then.
STAMP := $(ENV)/.reprog_kit-$(shell { cat pyproject.toml constraints.txt; echo $(EXTRAS); } | cksum | cut -d' ' -f1)
# Threads that spin while they wait take the cores from everything else on the machine.
export OMP_WAIT_POLICY ?= passive
# A notebook's kernel starts in 6 s where compiled modules may be kept, and in 14 s where not.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo reproduce test lint lab figures install

demo: $(STAMP)  ## train and evaluate on the embedded benchmark; the last line is the page to open
	$(PYTHON) -m reprog_kit reproduce demo

BENCH ?= demo
reproduce: $(STAMP)  ## every method with seeds 1, 2, 3: make reproduce BENCH=cifar10 ARGS="-p paddings 0,16,32 --dry-run"
	$(PYTHON) -m reprog_kit reproduce $(BENCH) --grid $(ARGS)

test: $(STAMP)  ## all tests; two processes of one thread each
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest

lint: $(STAMP)  ## code and notebooks: style, and no committed outputs
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m nbstripout --verify --keep-id notebooks/*.ipynb

lab: $(STAMP)  ## JupyterLab on the workbench, on localhost with its token, without news and update checks
	@$(PYTHON) -m jupyter labextension disable --level=sys_prefix @jupyterlab/apputils-extension:announcements >/dev/null
	$(PYTHON) -m jupyter lab --ServerApp.ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root) \
	  --LabApp.default_url=/lab/tree/notebooks/explore.ipynb

figures: $(STAMP)  ## the README's figures, from the demo's runs in runs/
	$(PYTHON) docs/figures.py

install: $(STAMP)  ## the environment alone

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' || \
	  { echo "Python 3.11.4 or newer is needed: make $(MAKECMDGOALS) PYTHON3=/path/to/python3.12"; exit 1; }
	test -x $(PYTHON) || $(PYTHON3) -m venv $(ENV)
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip install --quiet --python $(PYTHON) -c constraints.txt -e '.[$(EXTRAS)]'
	rm -f $(ENV)/.reprog_kit-* && touch $@
