# make run    train, evaluate and export on MovieLens-100K; again: show the finished run
# make test   linters, types and tests, 12 to 20 minutes on two cores
# make prove  the long proofs, then tables of benchmarks/RESULTS.md; hours
# make lint   linters and types alone
# make lock   pin what pyproject.toml asks for
#
# Only Python 3.11 or newer and make are needed: the environment is built in .venv from
# requirements.lock. Overrides of the job: make run ARGS="seed=2 student=tiny".

# The first of these that runs and is new enough; or name one: make run PYTHON=/path/to/python.
PYTHON ?= $(shell for found in python3.11 python3 python; do \
	$$found -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$found && break; done)
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Another lock is another stamp: a changed lock, or an installation that was killed before the
# stamp, is installed anew from nothing.
STAMP := $(VENV)/.installed-$(shell cksum < requirements.lock | tr ' ' '-')
define NEEDS_PYTHON
@test -n "$(PYTHON)" || { \
	echo "dualdnn needs Python 3.11 or newer, and found none on the PATH." >&2; \
	echo "Install it, or name it: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "dualdnn needs Python 3.11 or newer, and $(PYTHON) is not." >&2; \
	echo "Name another one: make run PYTHON=/path/to/python3.11" >&2; exit 1; }
endef
# Each prints figures of benchmarks/RESULTS.md. Those of a log that nobody fetches are added by
# make prove TWEETINGS=FOLDER; that of the peers needs an environment of its own, see
# python -m benchmarks.quality.peers --help.
TWEETINGS ?=
TABLES := benchmarks.training.throughput benchmarks.quality.hint_ablation \
	benchmarks.quality.few_rows_hints benchmarks.data.readers benchmarks.data.encoding \
	benchmarks.data.simulator benchmarks.data.large_feed benchmarks.daily.encode_one_day \
	benchmarks.daily.two_hundred_days

.PHONY: run test prove lint lock venv

run: $(STAMP)
	$(BIN)/python -m pipelines.train reuse=true resume=true $(ARGS)

# Two processes, a test file in one of them: some files are a story whose tests build on each other.
test: lint
	$(BIN)/python -m pytest -q -m "not prove" --numprocesses 2 --dist loadfile

prove: $(STAMP)
	$(BIN)/python -m pytest -q -m prove
	set -e; for table in $(TABLES); do $(BIN)/python -m $$table; done
	$(BIN)/python -m benchmarks.quality.feed_table --rows 500000
	$(BIN)/python -m benchmarks.quality.core_table $(if $(TWEETINGS),--tweetings $(TWEETINGS))
	$(BIN)/python -m pipelines.train experiment=scheme_comparison \
		window=random_fraction 'scheme_comparison.schemes=[co_training,two_stage,two_stage_own_embedding,feature_transfer,rocket_launching,none]'
	test -z "$(TWEETINGS)" || $(BIN)/python -m benchmarks.quality.online_table --tweetings $(TWEETINGS)
	test -z "$(TWEETINGS)" || $(BIN)/python -m pipelines.backtest data=movietweetings \
		data.raw=$(TWEETINGS) start=2013-07-01 end=2013-09-05

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/mypy

# In an environment of its own: what resolves the lock is not part of the lock.
lock:
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv --clear .make/lock
	.make/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	UV_CUSTOM_COMPILE_COMMAND="make lock" .make/lock/bin/uv pip compile pyproject.toml \
		--extra dev --python-version 3.11 --generate-hashes --no-emit-index-url --quiet \
		--output-file requirements.lock

venv: $(STAMP)

$(STAMP):
	$(NEEDS_PYTHON)
	@echo "installing into $(VENV), a few minutes"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements.lock
	@touch $@
