"""A container's health check: python docker/health.py URL [COMPONENT...].

Exit status 0 if the URL answers and all named components are healthy. The components are those that Airflow lists at
/api/v2/monitor/health. Otherwise exit status 1, with the reason on standard error.
"""

import json
import sys
import urllib.request


def unhealthy_components(url: str, components: list[str]) -> list[str]:
    """The components that are not healthy. Raises OSError if the URL does not answer."""
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
