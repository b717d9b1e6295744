# MTORL as a daily pipeline. Variables go to the scripts through the environment and are taken literally:
# no value that somebody types is ever part of a command line here.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VARIABLES := DATASET RAW LAKE DS FROM TO OUT PRESET USERS PORT VERSION RUNS THIS_CODE KILLS OPENLINEAGE \
	STUDY FOLDS SEEDS SEED WORKERS EPOCHS TRIALS HIDDEN WINDOWS ONLY SIZES REPEATS
$(foreach v,$(VARIABLES),$(if $(filter-out undefined,$(origin $(v))),$(eval override $(v) := $$(value $(v)))$(eval export $(v))))

TOOLS := .venv/bin

.PHONY: help setup run test unit lint up down evaluate study search benchmark-published results budget bench rollback backfill status report chaos orders cluster-test clean

help: ## print this list
	@echo "usage: make TARGET [DATASET=kuairand] [RAW=folder] [LAKE=lake] [FROM=day] [TO=day] ..."
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 24

setup: ## set up what is missing: packages in .venv, Java
	@bin/setup.sh

run: ## raw log to policies and ranks [DATASET RAW LAKE FROM TO PRESET=small|paper USERS]; no RAW: a generated log into lake/generated
	@bin/run.sh

evaluate: ## the champion on raw logs of unseen users, no training [DATASET RAW LAKE OUT=metrics.json]
	@bin/evaluate.sh

study: ## train variants of the model and compare them [DATASET LAKE STUDY=ablation|departures|steps|lambda|mu FOLDS=2 SEEDS=1 WORKERS EPOCHS]
	@bin/studies.sh study

search: ## Optuna over the paper's table 4; goes on where it stopped [DATASET LAKE TRIALS=30 HIDDEN=768 EPOCHS=10]
	@bin/studies.sh search

benchmark-published: ## the paper's own protocol, which leaks [DATASET LAKE PRESET WINDOWS=4000 EPOCHS=100 SEED=0 OUT]
	@bin/studies.sh published

results: ## docs/results.md from what the lake's evaluations and studies have found [LAKE OUT]
	@bin/studies.sh results

budget: setup ## compare budget strategies in the simulator; docs/budget.md gets the table and the curves (an hour)
	@$(TOOLS)/python -m simulation.compare --out .budget --document docs/budget.md

bench: ## the benchmarks, into docs/performance.md: hours [ONLY=journeys|day|training|scoring|large-day|gpu SIZES="1 4 16" REPEATS=3]
	@bin/bench.sh

rollback: ## make an earlier model the champion again [DATASET LAKE VERSION=mtorl_kuairand/3; none: the one before]
	@bin/lake.sh rollback

up: ## start Airflow on 127.0.0.1 [DATASET RAW: the daily log's folder; LAKE; PORT=8080; OPENLINEAGE=events.jsonl]
	@bin/service.sh up

down: ## stop Airflow
	@bin/service.sh down

backfill: ## run past days in the running Airflow, by default all that is stale [DATASET FROM TO RUNS=days at once THIS_CODE=1; elsewhere: AIRFLOW_URL]
	@bin/service.sh backfill

status: ## which days of which table are fresh, stale, missing or failed [DATASET LAKE FROM TO RAW]
	@bin/lake.sh status

report: ## a day as a page: verdict, rows, drift, model, results; and the index over days [DATASET LAKE DS=day; none: the latest; or FROM TO]
	@bin/lake.sh report

orders: setup ## backfill the KuaiRand sample through Airflow in four orders: an hour or two [ORDERS_DAYS=17]
	@ORDERS=1 $(TOOLS)/pytest -q -s -rs tests/test_orders.py

chaos: setup ## kill a day's run again and again, and see that nothing is lost [KILLS=100]
	@KILLS=$${KILLS:-100} $(TOOLS)/pytest -q -rsP tests/test_chaos.py

cluster-test: ## docker/compose.yaml without containers: a day on Celery and Spark, workers killed in the middle [DATASET RAW]
	@bin/cluster.sh

test: setup lint ## all tests, after lint
	@bin/browser.sh
	@$(TOOLS)/pytest -q -n 2 --dist loadfile

unit: setup ## the fast tests alone: no Spark, Airflow, browser or training
	@$(TOOLS)/pytest -q -n 2 -m "not slow and not spark and not airflow and not cluster and not browser"

lint: setup ## ruff and mypy
	@$(TOOLS)/ruff check .
	@$(TOOLS)/ruff format --check .
	@$(TOOLS)/mypy

clean: ## remove what can be made again: generated logs, caches, Airflow's own state (not .venv, not the lake)
	@bin/service.sh down
	@rm -rf -- .budget .bench raw/generated* raw/.generated* .airflow .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse
