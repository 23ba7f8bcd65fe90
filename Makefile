# `make` alone lists what there is. Values may hold spaces, quotes and dollars: they reach the commands through the
# environment as they were typed, and never become part of a shell line. ARGS adds options: ARGS='--quality good'.
# zsh, the shell of macOS, leaves the ~ of DATA=~/photos to us.
typed = $(subst <start>,,$(subst <start>~/,$(HOME)/,<start>$(value $(1))))
$(foreach name,DATA IMAGE SRC DST CLASSES PREDICT PATHS LABEL,$(eval override $(name) := $$(call typed,$(name))))
export DATA IMAGE SRC DST CLASSES PREDICT PATHS LABEL
need = $(foreach name,$(1),$(if $($(name)),,$(error Say which: make $@ $(1:%=%=…))))

SHELL_FILES = *.sh scripts/*.sh scripts/compat/*.sh tests/shell/*.bash tests/shell/*.bats tests/container/*.bash tests/container/*.bats .ci/run
DOCS = ARCHITECTURE.md docs/commands.md
LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	--group build pyproject.toml
TRAINING = scikit-learn scipy joblib narwhals cleanlab pandas python-dateutil six termcolor tzdata

.DEFAULT_GOAL := help
.PHONY: help setup setup-full setup-dev crawl learn train guess imagenet sort explain odd evaluate report serve faces clean demo doctor \
	image image-gpu test test-image lint format bench fuzz docs lock

help:
	@awk -F ': .*## ' '/^[a-z-]+: .*## / { match($$2, /^([A-Z]+=[a-z,]+ )*/); \
		printf "make %-37s %s\n", $$1 " " substr($$2, 1, RLENGTH), substr($$2, RLENGTH + 1) }' Makefile

setup: ## Make .venv, with all that training and guessing need
	@scripts/setup.sh requirements.txt

setup-full: ## The same with TensorFlow, to build further backbones
	@scripts/setup.sh requirements-full.txt

setup-dev:
	@scripts/setup.sh requirements-dev.txt

crawl: ## CLASSES=daisy,rose Fetch pictures of these, with authors and licences; DATA=folder takes them
	@$(call need,CLASSES)set -f; IFS=,; scripts/retrain.sh crawl $(if $(DATA),--out "$$DATA") $(ARGS) -- $$CLASSES

learn: ## CLASSES=cat,dog PREDICT=folder Learn these from their names alone, and recognise them there
	@$(call need,CLASSES PREDICT)scripts/retrain.sh learn "--classes=$$CLASSES" "--prediction-path=$$PREDICT" $(ARGS)

train: ## DATA=folder Teach a model its categories, one folder a class
	@$(call need,DATA)scripts/retrain.sh train $(ARGS) -- "$$DATA"

guess: ## IMAGE=file Say what is on it
	@$(call need,IMAGE)scripts/retrain.sh guess $(ARGS) -- "$$IMAGE"

imagenet: ## IMAGE=file Say which of 1,000 common things is on it, without training
	@$(call need,IMAGE)scripts/retrain.sh imagenet $(ARGS) -- "$$IMAGE"

sort: ## SRC=folder DST=folder Copy its pictures, sorted by what is on them
	@$(call need,SRC DST)scripts/retrain.sh sort $(ARGS) -- "$$SRC" "$$DST"

explain: ## IMAGE=file DST=folder Write there what on it speaks for its label
	@$(call need,IMAGE DST)scripts/retrain.sh explain --out "$$DST" $(ARGS) -- "$$IMAGE"

odd: ## PATHS=files,folders Find the picture that does not belong; LABEL=tree: those that are no tree
	@$(call need,PATHS)set -f; IFS=,; scripts/retrain.sh odd $(if $(LABEL),"--label=$$LABEL") $(ARGS) -- $$PATHS

evaluate: ## DATA=folder Measure the model on pictures that it has not seen
	@$(call need,DATA)scripts/retrain.sh evaluate $(ARGS) -- "$$DATA"

report: ## Open the page that shows how good the model is, and why
	@scripts/report.sh $(ARGS)

serve: ## Serve the model over HTTP, until Ctrl-C
	@scripts/serve.sh $(ARGS)

faces: ## List whose faces are kept; LABEL=anna deletes all that is kept of hers
	@scripts/retrain.sh faces $(if $(LABEL),"--forget=$$LABEL") $(ARGS)

clean: ## DATA=folder Find copies, wrong labels and unfit pictures; nothing is changed without ARGS=--apply
	@$(call need,DATA)scripts/retrain.sh clean $(ARGS) -- "$$DATA"

demo: ## Train on flower photos, or on drawn pictures where the network gives none
	@scripts/demo.sh

doctor: ## Look at this machine, and say what to do
	@scripts/doctor.sh $(ARGS)

image: ## Build the container images, to have them before their first use
	@scripts/image.sh guess full

image-gpu: ## The same for NVIDIA cards
	@scripts/image.sh gpu

test: setup-dev ## Run all tests; RETRAIN_TEST_DATA names real pictures to test on
	.venv/bin/bats tests/shell
	.venv/bin/python -m pytest $(ARGS)

test-image: setup-dev image ## Run retrain in the images as users do
	.venv/bin/bats tests/container

lint: setup-dev ## Check style, types, layers, shell and docs
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/shellcheck $(SHELL_FILES)
	.venv/bin/shfmt -d $(SHELL_FILES)
	.venv/bin/hadolint Dockerfile
	.venv/bin/cog --check $(DOCS)

format: setup-dev ## Mend what lint can mend
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
	.venv/bin/shfmt -w $(SHELL_FILES)

fuzz: setup-dev ## Try for a minute to break the decoder; ARGS=-max_total_time=600 for longer
	@if .venv/bin/uv pip install --quiet --python .venv/bin/python --target .venv/fuzz/packages atheris; then \
		PYTHONPATH=.venv/fuzz/packages .venv/bin/python tests/fuzz/fuzz_decode.py .venv/fuzz/corpus \
			-artifact_prefix=.venv/fuzz/ -timeout=10 -rss_limit_mb=2000 -close_fd_mask=2 -max_total_time=60 $(ARGS); \
	else echo "Atheris does not install here, so nothing was fuzzed: it needs Linux and a Python that it knows."; fi

bench: setup-full ## Measure speed beside peers
	.venv/bin/python -m benchmarks $(ARGS)

docs: setup-dev ## Write the command reference and the map of the modules anew
	.venv/bin/cog -r $(DOCS)

lock: setup-dev ## Pin the packages anew; ARGS=--upgrade takes the newest
	$(LOCK) $(ARGS) --extra tf --extra onnx --extra engines --extra faces --extra serve --extra video --extra watch --extra notebook --extra scale --group dev -o requirements-dev.txt
	$(LOCK) --extra tf --extra onnx --extra engines --extra faces --extra serve --extra video --extra watch --extra parquet -c requirements-dev.txt -o requirements-full.txt
	$(LOCK) --extra tf --extra onnx --extra engines --extra faces --extra serve --extra video --extra watch --extra parquet --extra gpu -c requirements-dev.txt -o requirements-gpu.txt
	$(LOCK) --extra serve --extra video --extra watch -c requirements-dev.txt -o requirements.txt
	$(LOCK) $(TRAINING:%=--no-emit-package %) -c requirements-dev.txt -o requirements-guess.txt
