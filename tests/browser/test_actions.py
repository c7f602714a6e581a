"""What an operator does to tasks and workers: asked about first, done, and said."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from fastworker import TaskStatus
from tests.browser.cluster import Cluster
from tests.browser.operator_page import Operator
from tests.nng.shell import wait_until

pytestmark = pytest.mark.browser


def test_cancel_is_asked_about_and_ends_the_task(operator: Operator, cluster: Cluster) -> None:
    (task_id,) = cluster.submit("hold", wait=False)
    operator.go(f"tasks/{task_id}?name=hold")
    expect(operator.drawer).to_contain_text("started")
    operator.button("Cancel", operator.drawer).click()
    dialog = operator.page.get_by_role("dialog")
    expect(dialog).to_contain_text(task_id)
    # What does nothing has the focus: a stray Enter cancels nothing.
    expect(operator.button("Keep as it is", dialog)).to_be_focused()
    operator.page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert cluster.status(task_id) is TaskStatus.STARTED
    expect(operator.button("Cancel", operator.drawer)).to_be_focused()

    operator.button("Cancel", operator.drawer).click()
    operator.agree("Cancel task")
    expect(operator.page.get_by_role("status").filter(has_text="hold")).to_be_visible()
    expect(operator.drawer.locator(".task-head")).to_contain_text("cancelled")
    assert cluster.status(task_id) is TaskStatus.CANCELLED


def test_retry_runs_it_again_and_purge_forgets_it(operator: Operator, cluster: Cluster) -> None:
    (task_id,) = cluster.submit("bad", "again")
    operator.go(f"tasks/{task_id}")
    created = operator.drawer.locator(".timeline time").last
    before = created.inner_text()
    operator.button("Retry", operator.drawer).click()
    operator.agree("Retry task")
    expect(operator.page.get_by_text("Queued again: bad")).to_be_visible()
    expect(created).not_to_have_text(before)
    expect(operator.drawer.locator(".task-head")).to_contain_text("failure")

    operator.button("Purge", operator.drawer).click()
    operator.agree("Purge task")
    expect(operator.drawer).to_have_count(0)
    expect(operator.page.get_by_text("Purged bad")).to_be_visible()
    expect(operator.rows.locator(f"[data-row='{task_id}']")).to_have_count(0)
    wait_until(lambda: cluster.status(task_id) is None, "the task is forgotten")


def test_several_are_chosen_and_those_left_are_named(
    operator: Operator, cluster: Cluster
) -> None:
    cluster.submit("bad", "several", count=3)
    (running,) = cluster.submit("hold", wait=False)
    operator.go("tasks?name=bad")
    expect(operator.rows).not_to_have_count(0)
    boxes = operator.page.get_by_role("checkbox", name=re.compile("^Choose [0-9a-f]{8}-"))
    boxes.nth(0).click()
    boxes.nth(2).click(modifiers=["Shift"])
    bulk = operator.page.get_by_role("group", name="Chosen tasks")
    expect(bulk).to_contain_text("3 chosen")
    operator.button("Purge", bulk).click()
    operator.agree("Purge 3 tasks")
    expect(operator.page.get_by_text("Purged 3 tasks")).to_be_visible()
    expect(bulk).to_be_hidden()

    operator.go("tasks?name=hold&status=started")
    operator.page.get_by_role("checkbox", name=f"Choose {running}").click()
    operator.button("Purge", bulk).click()
    operator.agree("Purge 1 task")
    alert = operator.page.locator(".toast-error")
    expect(alert).to_contain_text("1 task left as before")
    operator.button("Cancel", bulk).click()
    operator.agree("Cancel 1 task")
    wait_until(lambda: cluster.status(running) is TaskStatus.CANCELLED, "it is cancelled")


def test_a_refusal_is_shown_in_the_servers_words(operator: Operator, cluster: Cluster) -> None:
    (task_id,) = cluster.submit("bad", "gone")
    operator.go(f"tasks/{task_id}")
    operator.button("Purge", operator.drawer).click()
    # Somebody else was quicker.
    done = cluster.shell.run(
        "purge", "--yes", "--discovery-address", cluster.plane.discovery, task_id
    )
    assert done.returncode == 0, done.stderr
    operator.agree("Purge task")
    alert = operator.page.locator(".toast-error")
    expect(alert).to_contain_text("Purge failed")
    expect(alert).to_contain_text(task_id)
    operator.forget("status of 404")


def test_a_drained_worker_ends(operator: Operator, cluster: Cluster) -> None:
    worker = cluster.worker("leaving")
    operator.go("workers")
    card = operator.page.locator(".worker").filter(has_text="leaving")
    expect(card).to_contain_text("active")
    operator.button("Drain", card).click()
    operator.agree("Drain worker")
    expect(operator.page.get_by_text("Draining leaving")).to_be_visible()
    assert worker.wait() == 0
    expect(card).to_have_count(0)


def test_workers_show_what_they_run(operator: Operator, cluster: Cluster) -> None:
    (task_id,) = cluster.submit("hold", wait=False)
    operator.go("workers")
    card = operator.page.locator(".worker").filter(has_text="control-plane")
    running = card.get_by_role("link", name="hold").and_(
        operator.page.locator(f"[href*='{task_id}']")
    )
    expect(running).to_be_visible()
    expect(card.get_by_role("meter", name=re.compile("^Load of "))).not_to_have_attribute(
        "aria-valuenow", "0"
    )
    running.click()
    expect(operator.drawer.locator(".task-id")).to_have_text(task_id)
    with cluster.client() as client:
        client.cancel(task_id)
    expect(operator.drawer.locator(".task-head")).to_contain_text("cancelled")
