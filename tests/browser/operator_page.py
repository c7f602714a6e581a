"""An operator's browser: a page that remembers everything that went wrong in it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.cluster import Cluster

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}
PAGES = ("", "tasks", "workers", "functions", "callbacks", "poison")


class Operator:
    """Somebody with a browser of his own: no cookie and no setting is another's."""

    def __init__(self, browser: Browser, cluster: Cluster, **options: Any) -> None:
        self.cluster = cluster
        self._context = browser.new_context(**{"viewport": DESK, **options})
        self._context.set_default_timeout(15_000)
        self.problems: list[str] = []
        self.page: Page = self._context.new_page()
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("console", self._note)
        # Scripts and styles of elsewhere, and those in attributes, end here.
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation',"
            " event => console.error(`policy: ${event.violatedDirective}`))"
        )

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def sign_in(self, page: str = "") -> Operator:
        """Come in with the token, and go to a page."""
        self.page.goto(self.cluster.address)
        expect(self.heading).to_have_text("Overview")
        # The first look without a cookie: the browser says that it was a 401.
        self.forget(r"status of 401")
        if page:
            self.go(page)
        return self

    def go(self, page: str) -> None:
        """Follow an address of the page, such as ``tasks?status=failure``."""
        self.page.goto(f"{self.cluster.root}#/{page}")

    def forget(self, pattern: str) -> None:
        """These problems were to be expected."""
        self.problems = [each for each in self.problems if not re.search(pattern, each)]

    @property
    def heading(self) -> Locator:
        return self.page.locator("h1")

    @property
    def rows(self) -> Locator:
        """The rows of a list of tasks."""
        return self.page.locator("tbody tr")

    @property
    def drawer(self) -> Locator:
        return self.page.get_by_role("complementary")

    def button(self, name: str, within: Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=name, exact=True)

    def fact(self, name: str) -> Locator:
        """The value beside a name."""
        return self.page.locator(
            f"dl.facts > div:has(dt:text-is('{name}')) dd, "
            f"dl.facts > div:has(dt span:text-is('{name}')) dd"
        )

    def agree(self, button: str) -> None:
        """Press a button of the question that is asked."""
        dialog = self.page.get_by_role("dialog")
        self.button(button, dialog).click()
        expect(dialog).to_have_count(0)

    def is_too_wide(self) -> bool:
        """Whether one has to scroll sideways."""
        return bool(
            self.page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            )
        )

    def close(self) -> None:
        self._context.close()
