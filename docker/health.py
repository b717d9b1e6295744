"""A container's health check: python docker/health.py URL [COMPONENT...].

Healthy (status 0) if the URL answers, and if each named component of Airflow calls itself healthy in the answer of
its API (/api/v2/monitor/health).
"""

import json
import sys
import urllib.request

url, *components = sys.argv[1:]
with urllib.request.urlopen(url, timeout=10) as answer:
    states = json.load(answer) if components else {}
sys.exit(any(states[component]["status"] != "healthy" for component in components))
