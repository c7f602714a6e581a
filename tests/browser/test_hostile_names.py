"""Names, arguments, errors and ids that somebody chose to harm who looks at them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.cluster import IMAGE, LONG, OVERRIDE, RIGHT_TO_LEFT, SCRIPT, Cluster
from tests.browser.operator_page import PHONE, Operator

pytestmark = pytest.mark.browser


def test_nothing_that_has_a_name_runs(operator: Operator, cluster: Cluster) -> None:
    worker = cluster.worker(IMAGE)
    for name in (IMAGE, RIGHT_TO_LEFT, LONG):
        cluster.submit(name, f"{IMAGE}{SCRIPT}{OVERRIDE}")
    page = operator.page
    operator.go("")
    expect(page.get_by_role("region", name="Latest failures")).to_contain_text(IMAGE)
    operator.go("workers")
    expect(page.locator(".worker", has_text=IMAGE).first).to_be_visible()
    operator.button("Drain", page.locator(".worker", has_text="tcp://")).click()
    expect(page.get_by_role("dialog")).to_contain_text(IMAGE)
    operator.agree("Drain worker")
    expect(page.get_by_text("Draining <img")).to_be_visible()
    assert worker.wait() == 0
    operator.go("functions")
    expect(page.get_by_role("heading", name=IMAGE)).to_be_visible()
    for name in (IMAGE, RIGHT_TO_LEFT, LONG):
        operator.go("tasks")
        page.get_by_label("Function", exact=True).fill(name)
        page.keyboard.press("Enter")
        expect(operator.rows.first).to_contain_text(name)
        operator.rows.first.locator("a").click()
        expect(operator.drawer.get_by_role("heading", name=name)).to_be_visible()
        expect(operator.drawer.get_by_label("Arguments", exact=True)).to_contain_text(
            "</script>"
        )
    operator.go("tasks?status=failure&text=%3Cimg")
    operator.rows.first.locator("a").click()
    expect(operator.drawer.get_by_label("Traceback", exact=True)).to_contain_text(SCRIPT)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main script, aside img, dialog img").count() == 0


def test_text_from_right_to_left_turns_only_itself(
    operator: Operator, cluster: Cluster
) -> None:
    (task_id,) = cluster.submit("bad", RIGHT_TO_LEFT)
    operator.go(f"tasks/{task_id}")
    error = operator.rows.filter(has_text=RIGHT_TO_LEFT).locator("bdi.error-line").first
    traceback = operator.drawer.get_by_label("Traceback", exact=True).locator("bdi")
    for place in (error, traceback):
        expect(place).to_contain_text(RIGHT_TO_LEFT)
        expect(place).to_have_css("unicode-bidi", "isolate")


def test_an_address_cannot_bring_markup(operator: Operator) -> None:
    operator.go(f"tasks/{IMAGE.replace(' ', '%20')}?text={IMAGE.replace(' ', '%20')}")
    expect(operator.drawer).to_contain_text("This task is not known")
    operator.go("<img src=x onerror=alert(1)>")
    expect(operator.heading).to_have_text("Not found")
    assert operator.page.evaluate("window.pwned") is None
    operator.forget("status of 40[04]")


def test_long_names_do_not_push_the_page_apart(
    visit: Callable[..., Operator], cluster: Cluster
) -> None:
    (task_id,) = cluster.submit(LONG, "w" * 500)
    operator = visit(cluster, viewport=PHONE).sign_in("tasks")
    expect(operator.rows.first).to_be_visible()
    assert not operator.is_too_wide()
    operator.go(f"tasks/{task_id}")
    expect(operator.drawer.get_by_role("heading", name=LONG)).to_be_visible()
    assert not operator.is_too_wide()
    assert operator.drawer.evaluate("each => each.scrollWidth <= each.clientWidth")
