"""What an operator is woken for: poison, callbacks that do not arrive, lost workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.cluster import Cluster
from tests.browser.operator_page import Operator
from tests.nng.shell import open_shell
from tests.ports import free_address

pytestmark = pytest.mark.browser


def test_a_task_that_takes_its_workers_down_is_shown_as_poison(
    visit: Callable[..., Operator], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with open_shell(tmp_path_factory.mktemp("poison")) as shell:
        cluster = Cluster(shell, processes=1)
        operator = visit(cluster).sign_in("poison")
        expect(operator.page.get_by_text("No poison")).to_be_visible()
        (task_id,) = cluster.submit("deadly")
        # It comes without being asked for.
        row = operator.rows.filter(has=operator.page.locator(f"[data-row='{task_id}']"))
        expect(row).to_contain_text("its worker died 3 times", timeout=15_000)
        row.get_by_role("link").click()
        lost = operator.drawer.locator(".step-name", has_text="Its worker was lost")
        expect(lost).to_have_count(3)
        expect(operator.drawer.get_by_role("heading", name="Lost workers")).to_be_visible()
        operator.button("Purge", operator.drawer).click()
        operator.agree("Purge task")
        expect(operator.page.get_by_text("No poison")).to_be_visible()


def test_callbacks_that_have_not_arrived_are_listed(
    operator: Operator, cluster: Cluster
) -> None:
    with cluster.client() as client:
        task_id = client.delay_with_callback("add", free_address(), 1, 2)
    operator.go("callbacks?phase=retrying")
    row = operator.rows.filter(has_text=task_id)

    # It comes by itself; the list is asked for every few seconds.
    expect(row).to_have_count(1, timeout=15_000)
    expect(row).to_contain_text("retrying")
    expect(row).to_contain_text("tcp://127.0.0.1")
    expect(operator.button("retrying")).to_have_attribute("aria-pressed", "true")
    row.get_by_role("link", name=task_id).click()
    expect(operator.drawer).to_contain_text("Succeeded")
    operator.go("callbacks?phase=parked")
    expect(operator.page.get_by_text("No such callback")).to_be_visible()


def test_a_worker_that_is_lost_is_said_on_the_first_page(
    visit: Callable[..., Operator], own_cluster: Cluster
) -> None:
    worker = own_cluster.worker("lost")
    operator = visit(own_cluster).sign_in()
    expect(operator.page.get_by_role("link", name="Workers 2", exact=True)).to_be_visible()
    expect(operator.page.locator(".attention")).to_be_empty()
    worker.process.kill()
    expect(operator.page.locator(".attention")).to_contain_text("1 worker lost")
    operator.page.get_by_role("link", name="1 worker lost").click()
    expect(operator.page.locator(".worker")).to_have_count(1)
