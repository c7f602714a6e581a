"""The list of tasks: found, filtered, turned over, and looked at one by one."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.cluster import Cluster
from tests.browser.operator_page import Operator

pytestmark = pytest.mark.browser


def test_filters_choose_and_stay_in_the_address(operator: Operator, cluster: Cluster) -> None:
    cluster.submit("add", 1, 2)
    (failed,) = cluster.submit("bad", "filtered")
    operator.go("tasks")
    operator.button("failure").click()
    expect(operator.page).to_have_url(re.compile(r"#/tasks\?status=failure$"))
    expect(operator.rows.first).to_contain_text("ValueError")
    expect(operator.rows.filter(has_text="success")).to_have_count(0)
    operator.page.get_by_label("Function", exact=True).fill("bad")
    operator.page.keyboard.press("Enter")
    operator.page.get_by_label("Created", exact=True).select_option("1h")
    expect(operator.page).to_have_url(re.compile(r"name=bad&last=1h$"))
    operator.page.get_by_label("Search tasks").fill(failed[:20])
    expect(operator.page).to_have_url(re.compile(rf"text={failed[:20]}"))
    expect(operator.rows).to_have_count(1)

    operator.page.reload()
    expect(operator.rows).to_have_count(1)
    expect(operator.button("failure")).to_have_attribute("aria-pressed", "true")
    expect(operator.page.get_by_label("Search tasks")).to_have_value(failed[:20])

    operator.button("success").click()
    operator.button("failure").click()
    expect(operator.page.get_by_text("No task matches")).to_be_visible()
    operator.button("Clear filters").click()
    expect(operator.page).to_have_url(re.compile(r"#/tasks$"))
    expect(operator.rows).not_to_have_count(0)


def test_priority_worker_and_time_are_filters(operator: Operator, cluster: Cluster) -> None:
    with cluster.client() as client:
        client.options(priority="critical").submit("add", 1, 2).result()
    operator.go("tasks?priority=critical")
    expect(operator.rows.locator(".priority-critical")).not_to_have_count(0)
    expect(operator.rows.locator(".priority-normal")).to_have_count(0)
    operator.go("tasks?worker=nobody")
    expect(operator.page.get_by_text("No task matches")).to_be_visible()
    operator.go("tasks?until=2020-01-01T00:00")
    expect(operator.page.get_by_text("No task matches")).to_be_visible()
    expect(operator.page.get_by_label("Created before")).to_have_value("2020-01-01T00:00")


def test_pages_are_turned_by_number(operator: Operator, cluster: Cluster) -> None:
    cluster.submit("add", 3, 4, count=120)
    operator.go("tasks?name=add")
    expect(operator.rows).to_have_count(50)
    newest = operator.rows.first.locator("a").get_attribute("data-row")
    expect(operator.button("Newer")).to_be_disabled()
    operator.button("Older").click()
    expect(operator.page).to_have_url(re.compile(r"before=\d+$"))
    expect(operator.rows.locator(f"[data-row='{newest}']")).to_have_count(0)
    expect(operator.rows).to_have_count(50)
    second = operator.rows.first.locator("a").get_attribute("data-row")
    operator.button("Older").click()
    expect(operator.rows.locator(f"[data-row='{second}']")).to_have_count(0)
    operator.button("Newer").click()
    expect(operator.rows.first.locator("a")).to_have_attribute("data-row", second or "")
    operator.button("Newer").click()
    expect(operator.rows.first.locator("a")).to_have_attribute("data-row", newest or "")


def test_a_task_shows_everything_about_itself(operator: Operator, cluster: Cluster) -> None:
    (task_id,) = cluster.submit("bad", "no luck")
    operator.go("tasks?status=failure")
    operator.rows.locator(f"[data-row='{task_id}']").click()
    drawer = operator.drawer
    expect(drawer.get_by_role("heading", name="bad")).to_be_focused()
    expect(operator.page).to_have_url(re.compile(rf"#/tasks/{task_id}\?status=failure$"))
    expect(drawer.get_by_label("Traceback", exact=True)).to_contain_text(
        re.compile(r"page_tasks\.py.*raise ValueError\(why\)", re.DOTALL)
    )
    expect(drawer.get_by_label("Arguments", exact=True)).to_contain_text("no luck")
    steps = drawer.locator(".timeline .step-name")
    expect(steps).to_have_text(["Submitted", "Started", "Failed"])
    expect(drawer.locator(".phases")).to_contain_text("Ran")

    operator.page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    expect(operator.rows.locator(f"[data-row='{task_id}']")).to_be_focused()
    operator.page.go_back()
    expect(drawer).to_be_visible()


def test_a_result_is_shown_and_an_unknown_task_is_said_to_be(
    operator: Operator, cluster: Cluster
) -> None:
    (task_id,) = cluster.submit("add", 40, 2)
    operator.go(f"tasks/{task_id}")
    expect(operator.drawer.get_by_label("Result", exact=True)).to_have_text("42")
    # More than a number of JavaScript has digits for.
    (task_id,) = cluster.submit("add", 2**63, 1)
    operator.go(f"tasks/{task_id}")
    expect(operator.drawer.get_by_label("Result", exact=True)).to_have_text(str(2**63 + 1))
    expect(operator.drawer.get_by_label("Arguments", exact=True)).to_contain_text(str(2**63))
    operator.go("tasks/00000000000000000000000000000000")
    expect(operator.drawer).to_contain_text("This task is not known")
    operator.forget("status of 404")


def test_rows_arrive_and_change_while_one_looks(operator: Operator, cluster: Cluster) -> None:
    operator.go("tasks?name=hold")
    expect(operator.page.locator(".list-head")).to_contain_text("on this page")
    with cluster.client() as client:
        task_id = client.delay("hold")
        row = operator.rows.filter(has=operator.page.locator(f"[data-row='{task_id}']"))
        expect(row).to_contain_text("started")
        client.cancel(task_id)
        expect(row).to_contain_text("cancelled")


def test_a_paused_list_stays_until_it_is_asked(operator: Operator, cluster: Cluster) -> None:
    operator.go("tasks?name=add")
    expect(operator.rows).not_to_have_count(0)
    operator.button("Pause live updates").click()
    (task_id,) = cluster.submit("add", 5, 6)
    more = operator.page.get_by_role("button", name=re.compile(r"^Show 1 change"))
    expect(more).to_be_visible()
    row = operator.rows.locator(f"[data-row='{task_id}']")
    expect(row).to_have_count(0)
    more.click()
    expect(row).to_have_count(1)


def test_a_paused_list_keeps_no_more_than_it_can_show(
    operator: Operator, cluster: Cluster
) -> None:
    operator.go("tasks?name=add")
    expect(operator.rows).not_to_have_count(0)
    operator.button("Pause live updates").click()
    before = operator.rows.first.locator("a").get_attribute("data-row")
    newest = cluster.submit("add", 7, 8, count=1_500)[-1]
    expect(operator.button("Show many changes")).to_be_visible()
    expect(operator.rows.first.locator("a")).to_have_attribute("data-row", before or "")
    operator.button("Show many changes").click()
    expect(operator.rows.first.locator("a")).to_have_attribute("data-row", newest)
    expect(operator.rows).to_have_count(50)


def test_an_answer_that_is_an_error_is_shown_and_asked_for_again(operator: Operator) -> None:
    page = operator.page
    refusal = '{"error": {"code": "internal", "message": "the <b>store</b> is away"}}'
    page.route("**/api/functions", lambda route: route.fulfill(status=503, body=refusal))
    operator.go("functions")
    expect(page.locator(".is-error")).to_contain_text("the <b>store</b> is away")
    with page.expect_request("**/api/functions"):
        operator.button("Try again").click()
    expect(page.locator(".is-error")).to_contain_text("the <b>store</b> is away")
    page.unroute("**/api/functions")
    # The page asks again by itself, too, when a worker comes: then the button is gone.
    page.evaluate("for (const b of document.querySelectorAll('.is-error button')) b.click()")
    expect(page.get_by_role("heading", name="add")).to_be_visible()
    operator.forget("status of 503")


def test_functions_callbacks_and_poison_have_pages(operator: Operator) -> None:
    operator.go("functions?text=numbers")
    card = operator.page.locator(".function")
    expect(card).to_have_count(1)
    expect(card).to_contain_text("(a: int, b: int) -> int")
    card.get_by_role("link", name="add").click()
    expect(operator.page).to_have_url(re.compile(r"#/tasks\?name=add$"))
    operator.go("callbacks")
    expect(operator.page.get_by_text("All callbacks have arrived")).to_be_visible()
    operator.go("poison")
    expect(operator.heading).to_have_text("Poison")
    expect(operator.page.get_by_text("No poison")).to_be_visible()
    operator.go("nowhere")
    expect(operator.page.get_by_text("There is no such page")).to_be_visible()
