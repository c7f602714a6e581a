"""Everything that has to pass, one command each: ``nox -s lint`` and so on.

``nox`` alone runs all of it, in environments of its own, from PyPI.
"""

from __future__ import annotations

import shutil

import nox

nox.options.sessions = [
    "lint",
    "types",
    "tests",
    "tests_nng",
    "tests_browser",
    "api",
    "chaos",
    "simulate",
    "mutants",
    "docs",
]
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "venv"

IN_MEMORY = "not nng and not types and not browser"
PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *groups: str, package: bool = True) -> None:
    """Install dependency groups of ``pyproject.toml``, and the package itself."""
    requirements = nox.project.dependency_groups(PROJECT, *groups)
    # Editable, so that the tests and the processes they start see one source.
    session.install("-q", *requirements, *(["-e", "."] if package else []))


@nox.session
def lint(session: nox.Session) -> None:
    """Look for mistakes, and for code that is not in the one format."""
    install(session, "lint", package=False)
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types inside, and those that users see."""
    install(session, "types", "test")
    session.run("mypy", *session.posargs)
    session.run("pytest", "-m", "types")


@nox.session
def tests(session: nox.Session) -> None:
    """Test in memory and in virtual time: the same result every time."""
    install(session, "test")
    # In as many processes as there are cores: no test depends on another, or on time.
    workers = ["-n", "auto", "--dist", "worksteal"]
    session.run("pytest", "-m", IN_MEMORY, *workers, *session.posargs)


@nox.session
def tests_nng(session: nox.Session) -> None:
    """Test with real sockets, real processes and real time."""
    install(session, "test")
    session.run("pytest", "-m", "nng", *session.posargs)


@nox.session
def tests_browser(session: nox.Session) -> None:
    """Test the dashboard in a headless Chromium: that of the machine, else Debian's."""
    install(session, "test", "browser")
    if shutil.which("chromium") is None:
        session.run("apt-get", "update", "-q", external=True)
        session.run("apt-get", "install", "-q", "-y", "chromium", external=True)
    session.run("pytest", "-m", "browser", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Try a million hostile inputs of all kinds; COUNT and SEED may follow."""
    install(session, "test")
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """Simulate 1,000 clusters, each with faults of its own; or ``-- --seeds 20000``."""
    install(session, "test")
    session.run("python", "-m", "tests.simulation", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Have the simulation notice three mistakes that are put in; ``-- --seeds 500``: all."""
    install(session, "test")
    session.run("python", "-m", "tests.mutants", *(session.posargs or ["--few"]))


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill, stop and cut off real processes for a minute; or ``-- --minutes 30``."""
    install(session, "test")
    session.run("python", "-m", "tests.chaos", *session.posargs)


@nox.session
def api(session: nox.Session) -> None:
    """Compare the REST API with its own description; arguments go to schemathesis."""
    install(session, "test", "api")
    session.run("python", "-m", "tests.api", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; a warning is an error."""
    install(session, "docs")
    session.run(
        "sphinx-build", "-q", "-W", "--keep-going", "docs", "docs/_build", *session.posargs
    )


@nox.session
def bench_peers(session: nox.Session) -> None:
    """Measure FastWorker beside eight others, each installed from PyPI; or ``-- --quick``."""
    install(session, "chart")
    if shutil.which("redis-server") is None:
        session.run("apt-get", "update", "-q", external=True)
        session.run("apt-get", "install", "-q", "-y", "redis-server", external=True)
    session.run("python", "-m", "benchmarks.peers", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Measure which lines and branches the tests in memory reach."""
    install(session, "test", "coverage")
    session.run("coverage", "run", "-m", "pytest", "-m", IN_MEMORY, *session.posargs)
    session.run("coverage", "report")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure ours; minutes each. Names may follow: ``-- scale footprint``."""
    install(session, "test")
    # A figure that is not met ends its script with 1, and must not hide the others'.
    ours = ["throughput", "roundtrip", "durable", "scale", "footprint", "payloads"]
    for name in session.posargs or ours:
        session.run("python", f"benchmarks/{name}.py", success_codes=[0, 1])
