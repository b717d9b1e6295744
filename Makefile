# MTORL as a daily pipeline. Scripts read variables from the environment, so that a value that a person typed is never
# part of a command line here.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VARIABLES := DATASET RAW LAKE DS FROM TO OUT METHOD PRESET USERS PORT VERSION RUNS THIS_CODE ACCEPT_FEW_ROWS KILLS OPENLINEAGE \
	STUDY PROTOCOL REPAIR DRY_RUN NETWORKS TABLE_ONLY PREDICTOR FOLDS SEEDS SEED WORKERS EPOCHS TRIALS HIDDEN WINDOWS ONLY SIZES REPEATS METHODS
# make up RAW_<NAME>=folder: the logs of several datasets.
LOGS := $(foreach v,$(filter RAW_%,$(.VARIABLES)),$(if $(filter command,$(origin $(v))),$(v)))
$(foreach v,$(VARIABLES) $(LOGS),$(if $(filter-out undefined,$(origin $(v))),$(eval override $(v) := $$(value $(v)))$(eval export $(v))))

TOOLS := .venv/bin
# Several processes run the tests. With two threads each, torch's and scikit-learn's threads wait for each other most of the
# time. Without compiled files, all processes would compile all tests and modules, which takes a third of their start.
TEST_SETTINGS := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1

.PHONY: help setup run test unit lint up down evaluate study search benchmark-published results budget bench rollback backfill status report verify maintain chaos orders cluster-test clean

help: ## print this list
	@echo "usage: make TARGET [DATASET=kuairand] [RAW=folder or URI] [LAKE=lake] [FROM=day] [TO=day] ..."
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 24

setup: ## install what is missing: packages in .venv, Java
	@bin/setup.sh

run: ## from a raw log to policies and ranks [DATASET RAW LAKE FROM TO METHOD=mtorl|rmtl|unified_rl|mtorl,rmtl PRESET=small|paper USERS ACCEPT_FEW_ROWS=1]; without RAW: a generated log, into lake/generated
	@bin/run.sh

evaluate: ## test the champion of a method, without training, on raw logs of unseen users, or without RAW on the lake's held-out users [DATASET LAKE RAW METHOD OUT=metrics.json]
	@bin/evaluate.sh

study: ## train variants of the model and compare them [DATASET LAKE STUDY=ablation|departures|steps|lambda|mu|embeddings|rmtl|fusion|baselines|replay FOLDS=2 SEEDS=1 WORKERS EPOCHS; of rmtl: PROTOCOL=unseen-users|published-time-split NETWORKS TABLE_ONLY; of fusion: PREDICTOR=boosting|rmtl; of baselines: TRIALS=10 METHODS; of replay: FROM TO BUDGET METHODS]
	@bin/studies.sh study

search: ## search the hyperparameters of the paper's table 4 with Optuna; continues an earlier search [DATASET LAKE TRIALS=30 HIDDEN=768 EPOCHS=10]
	@bin/studies.sh search

benchmark-published: ## repeat the paper's own protocol, in which test data leak into training [DATASET LAKE METHOD=mtorl PRESET WINDOWS=4000 EPOCHS=100 SEED=0 OUT]
	@bin/studies.sh published

results: ## write docs/results.md from the evaluations and studies of a lake [LAKE OUT]
	@bin/studies.sh results

budget: setup ## compare budget strategies in the simulator and write the table and curves of docs/budget.md (takes an hour)
	@$(TOOLS)/python -m simulation.compare --out .budget --document docs/budget.md

bench: ## run the benchmarks and write docs/performance.md (takes hours) [ONLY=journeys|scale|day|history|training|scoring|large-day|gpu SIZES="1 4 16" REPEATS=3]
	@bin/bench.sh

rollback: ## make an earlier model the champion again [DATASET LAKE METHOD VERSION=mtorl_kuairand/3; without VERSION: the previous champion]
	@bin/lake.sh rollback

up: ## start Airflow on 127.0.0.1 [DATASET; RAW: the folder of the daily log; RAW_<NAME>: those of several datasets; LAKE; METHOD: the methods of DATASET; PORT=8080; OPENLINEAGE=events.jsonl]
	@bin/service.sh up

down: ## stop Airflow
	@bin/service.sh down

backfill: ## run past days in the running Airflow, by default all stale days [DATASET FROM TO; METHOD: only these methods learn; RUNS: days in parallel; THIS_CODE=1; ACCEPT_FEW_ROWS=1: a quiet last day; AIRFLOW_URL: another Airflow]
	@bin/service.sh backfill

status: ## show which days of which table are fresh, stale, missing or failed [DATASET LAKE RAW FROM TO]
	@bin/lake.sh status

report: ## write the page of a day: verdict, rows, drift, model, results; and the index of all days [DATASET LAKE; DS=day, by default the latest; or FROM TO]
	@bin/lake.sh report

verify: ## check that every file of the lake is there and unchanged; what is damaged is named, with what to do [DATASET LAKE; REPAIR=1 takes damaged days out of their tables, so that the next run builds them again]
	@bin/lake.sh verify

maintain: ## remove what no command needs any more: replaced files, old logs and pages, unused caches [DATASET LAKE; DRY_RUN=1 only prints what would go]
	@bin/lake.sh maintain

orders: setup ## backfill the KuaiRand sample through Airflow in four orders (takes an hour or two) [ORDERS_DAYS=17]
	@ORDERS=1 $(TOOLS)/pytest -q -s -rs tests/test_orders.py

chaos: setup ## kill the run of a day again and again, and check that nothing is lost [KILLS=100]
	@KILLS=$${KILLS:-100} $(TOOLS)/pytest -q -rsP tests/test_chaos.py

cluster-test: ## run docker/compose.yaml without containers: a day on Celery and Spark, with workers that are killed [DATASET RAW]
	@bin/cluster.sh

test: setup lint ## run lint and all tests
	@bin/browser.sh
	@bin/s3_server.sh
	@$(TEST_SETTINGS) $(TOOLS)/pytest -q -n 3 --dist loadfile --no-loadscope-reorder

unit: setup ## run the fast tests only: no Spark, Airflow, browser, training or lake
	@$(TEST_SETTINGS) $(TOOLS)/pytest -q -n 2 --dist worksteal --ignore=tests/dags -m "not slow and not lake and not spark and not airflow and not cluster and not bucket and not browser"

lint: setup ## run ruff and mypy
	@$(TOOLS)/ruff check .
	@$(TOOLS)/ruff format --check .
	@$(TOOLS)/mypy

clean: ## stop Airflow and remove generated logs, caches and Airflow's state (not .venv, not the lake)
	@bin/service.sh down
	@rm -rf -- .budget .bench raw/generated* raw/.generated* .airflow .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse
