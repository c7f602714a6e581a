"""Dark and light, phone and wall, and all of it by keyboard."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.cluster import Cluster
from tests.browser.operator_page import PAGES, PHONE, Operator

pytestmark = pytest.mark.browser


def lightness(page: Page) -> float:
    """Of the page's ground, from 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def test_dark_follows_the_system_until_one_chooses(
    visit: Callable[..., Operator], cluster: Cluster
) -> None:
    operator = visit(cluster, color_scheme="dark").sign_in()
    assert lightness(operator.page) < 50
    operator.page.emulate_media(color_scheme="light")
    assert lightness(operator.page) > 200
    for chosen, is_dark in (("light", False), ("dark", True)):
        operator.page.locator("#theme").click()
        expect(operator.page.locator("#theme")).to_have_attribute("title", f"Colours: {chosen}")
        assert (lightness(operator.page) < 50) is is_dark
    operator.page.reload()
    expect(operator.heading).to_have_text("Overview")
    assert lightness(operator.page) < 50


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_no_page_is_wider_than_the_screen(
    visit: Callable[..., Operator], cluster: Cluster, width: int
) -> None:
    cluster.submit("bad", "w" * 300)
    operator = visit(cluster, viewport={"width": width, "height": 800}).sign_in()
    for page in PAGES:
        operator.go(page)
        expect(operator.page.locator("#view .skeleton")).to_have_count(0)
        expect(operator.page.locator("#view > *")).not_to_have_count(0)
        assert not operator.is_too_wide(), page


def test_on_a_phone_pages_are_at_the_foot_and_a_task_fills_the_screen(
    visit: Callable[..., Operator], cluster: Cluster
) -> None:
    (task_id,) = cluster.submit("add", 1, 2)
    operator = visit(cluster, viewport=PHONE, has_touch=True).sign_in()
    pages = operator.page.get_by_role("navigation", name="Pages")
    box = pages.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] == PHONE["height"]
    pages.get_by_role("link", name="Tasks").click()
    operator.button("Filters").click()
    operator.page.get_by_label("Function", exact=True).fill("add")
    operator.page.keyboard.press("Enter")
    operator.rows.locator(f"[data-row='{task_id}']").click()
    box = operator.drawer.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (PHONE["width"], PHONE["height"])
    operator.button("Close").click()
    expect(operator.rows.locator(f"[data-row='{task_id}']")).to_be_focused()


def test_everything_is_reached_by_keyboard(operator: Operator, cluster: Cluster) -> None:
    cluster.submit("add", 1, 2, count=3)
    press = operator.page.keyboard.press
    for key, name in (("t", "Tasks"), ("w", "Workers"), ("f", "Task functions")):
        press("g")
        press(key)
        expect(operator.heading).to_have_text(name)
    press("/")
    expect(operator.page.get_by_label("Filter task functions")).to_be_focused()
    operator.page.keyboard.type("gg?")
    expect(operator.page.get_by_label("Filter task functions")).to_have_value("gg?")
    press("Escape")
    press("g")
    press("o")
    expect(operator.heading).to_have_text("Overview")
    press("/")
    expect(operator.page.get_by_label("Search tasks")).to_be_focused()
    press("Escape")
    expect(operator.rows).not_to_have_count(0)
    operator.button("Pause live updates").click()
    press("j")
    press("j")
    expect(operator.rows.nth(1).locator("a")).to_be_focused()
    press("k")
    expect(operator.rows.nth(0).locator("a")).to_be_focused()
    press("x")
    expect(operator.rows.nth(0).get_by_role("checkbox")).to_be_checked()
    press("Enter")
    expect(operator.drawer).to_be_visible()
    press("Escape")
    expect(operator.drawer).to_have_count(0)
    press("Escape")
    expect(operator.rows.nth(0).get_by_role("checkbox")).not_to_be_checked()
    press("?")
    expect(operator.page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    press("Escape")
    expect(operator.page.get_by_role("dialog")).to_have_count(0)


def test_the_page_has_landmarks_labels_and_names(operator: Operator) -> None:
    page = operator.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    for role in ("banner", "navigation", "main"):
        expect(page.get_by_role(role).first).to_be_visible()
    for address in PAGES:
        operator.go(address)
        expect(page.locator("#view .skeleton")).to_have_count(0)
        expect(page.locator("h1")).to_have_count(1)
        expect(page).to_have_title(re.compile(r".+ · FastWorker"))
        # Whatever can be pressed or filled in says what it is.
        nameless = page.locator("button, a[href], input, select").evaluate_all(
            "all => all.filter(each => !(each.getAttribute('aria-label') ||"
            " each.textContent.trim() || each.labels?.length)).map(each => each.outerHTML)"
        )
        assert nameless == []
        for header in page.locator("thead th").all():
            assert header.get_attribute("scope") == "col"
