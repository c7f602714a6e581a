"""Which version of fastworker is installed."""

from __future__ import annotations


def installed_version() -> str:
    """As the package's metadata says."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("fastworker")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return "0+unknown"
