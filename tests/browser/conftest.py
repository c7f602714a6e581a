"""What the tests in a browser share: one Chromium, one cluster, and operators."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.cluster import Cluster
from tests.browser.operator_page import Operator
from tests.nng.shell import open_shell

# What a busy machine may take; what has to be quick is measured where it is asked.
expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path is not None, "there is no chromium; on Debian: apt-get install chromium"
    # Its sandbox does not run as root, which is who runs the tests in a container.
    options = {"executable_path": path, "args": ["--no-sandbox"]}
    with sync_playwright() as playwright, playwright.chromium.launch(**options) as found:
        yield found


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all tests that leave others' tasks alone."""
    with open_shell(tmp_path_factory.mktemp("cluster")) as shell:
        yield Cluster(shell)


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One that the test may end."""
    with open_shell(tmp_path_factory.mktemp("own")) as shell:
        yield Cluster(shell)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Operator]]:
    """Make operators; none of them may have met a problem that the test did not expect."""
    operators: list[Operator] = []

    def make(cluster: Cluster, **options: Any) -> Operator:
        operators.append(Operator(browser, cluster, **options))
        return operators[-1]

    yield make
    for operator in operators:
        operator.close()
    assert [problem for operator in operators for problem in operator.problems] == []


@pytest.fixture
def operator(visit: Callable[..., Operator], cluster: Cluster) -> Operator:
    """Somebody at a desk who has signed in."""
    return visit(cluster).sign_in()
