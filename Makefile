# What there is to do, and the set-up it needs.  `make help` lists it.
#
# Every target first sees to .venv (tools/environment.py: nothing to do the second time).  NOVENV=1 leaves that out and
# uses PYTHON as it is, without any network.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help train test test-slow test-gpu lint bench bench-gpu clean

# the sets of requirements/ behind a target; `cuda` is CuPy where an NVIDIA driver is present
train_sets := core extras cuda
test_sets  := core extras test cuda
lint_sets  := core lint
bench_sets := core extras cuda
ifeq ($(ORACLES),1)
export ORACLES
test_sets  += oracles peers ptx
bench_sets += oracles
endif

ifdef NOVENV
PY    := $(or $(PYTHON),python3)
fits   = tools/find-python "$(PY)" >/dev/null
setup  = $(fits) && "$(PY)" tools/environment.py check
else
PY    := .venv/bin/python
setup  = found=$$(tools/find-python "$(PYTHON)") && "$$found" tools/environment.py $(if $(PYTHON),reinstall,install)
endif

# the variables that train.py has as flags; only those that are set are passed on
flags = $(if $(MODEL),--model $(MODEL)) $(if $(OPTIM),--optimizer $(OPTIM)) $(if $(SCHEDULE),--schedule $(SCHEDULE)) \
        $(if $(DEVICE),--device $(DEVICE)) $(if $(SEED),--seed $(SEED)) $(if $(EPOCHS),--epochs $(EPOCHS)) \
        $(if $(RESUME),--resume $(RESUME))

help: ## this list
	@echo "make TARGET [VARIABLE=value ...]"
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 14
	@echo "Variables: MODEL OPTIM SCHEDULE DEVICE SEED EPOCHS RESUME of train; ARGS=\"...\" is passed on as it stands;"
	@echo "  ORACLES=1 installs torch, scipy, CuPy and NVRTC for the tests that compare with them, and demands them;"
	@echo "  PYTHON=python3.12 makes .venv with that Python; NOVENV=1 PYTHON=python3 installs nothing at all."

train: ## train on the embedded data, on the GPU if there is one: MODEL=mlp OPTIM=lion SCHEDULE=cosine DEVICE=cpu ...
	@$(setup) $(train_sets)
	$(PY) train.py $(strip $(flags) $(ARGS))

test: ## the fast tests; ORACLES=1 compares with torch and compiles every kernel to PTX too
	@$(setup) $(test_sets)
	$(PY) -m pytest -q -m "not slow and not gpu" $(ARGS)

test-slow: ## the slow tests
	@$(setup) $(test_sets)
	$(PY) -m pytest -q -m "slow and not gpu" $(ARGS)

test-gpu: ## the tests that need a CUDA GPU; without one it says so and succeeds
	@$(if $(NOVENV),$(fits),$(setup) $(test_sets))
	@$(PY) tools/environment.py gpu; case $$? in \
	  0) $(if $(NOVENV),$(setup) $(test_sets) &&) $(PY) -m pytest -q -m gpu $(ARGS);; \
	  3) ;; \
	  *) exit 1;; \
	esac

lint: ## format, lint, types
	@$(setup) $(lint_sets)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy minigrad kernels models

bench: ## the speed of a training step; ARGS="--against torch" with ORACLES=1
	@$(setup) $(bench_sets)
	$(PY) benchmarks/step.py $(ARGS)

bench-gpu: ## H1 to H5, whole steps on a GPU beside torch and jax: NOVENV=1 PYTHON=one-that-has-them ARGS="--minutes 9"
	@$(setup) $(bench_sets)
	$(PY) benchmarks/gpu.py $(ARGS)

clean: ## remove .venv, caches and built files; results stay
	rm -rf .venv .venv.lock build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
