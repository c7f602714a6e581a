"""The REST API against its own description: ``nox -s api``."""
