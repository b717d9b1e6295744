"""A container's health check: python docker/health.py URL [COMPONENT...].

Exit status 0 if the URL answers, and if each named component of Airflow is healthy according to the answer of its API
(/api/v2/monitor/health); else 1, with the reason on standard error.
"""

import json
import sys
import urllib.request


def unhealthy_components(url: str, components: list[str]) -> list[str]:
    """Those of the components that are not healthy. Raises OSError where the URL does not answer."""
    with urllib.request.urlopen(url, timeout=10) as response:
        states = json.load(response) if components else {}
    return [name for name in components if states.get(name, {}).get("status") != "healthy"]


def main() -> int:
    url, *components = sys.argv[1:]
    try:
        unhealthy = unhealthy_components(url, components)
    except (OSError, ValueError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    if unhealthy:
        print(f"unhealthy: {', '.join(unhealthy)}", file=sys.stderr)
    return 1 if unhealthy else 0


if __name__ == "__main__":
    sys.exit(main())
