"""Takes the pictures of the documentation, of a cluster that works: a few minutes.

``python -m tests.browser.screenshots`` writes ``docs/_static/dashboard-*.png``.
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from fastworker import SyncClient
from tests.browser.cluster import Cluster
from tests.nng.processes import ROOT
from tests.nng.shell import open_shell

FOLDER = ROOT / "docs" / "_static"
SECONDS = 200

TASKS = """
import random
import time

import trio

from fastworker import task


async def work(seconds: float) -> None:
    await trio.sleep(random.lognormvariate(0, 0.6) * seconds)


@task(name="billing.charge")
async def charge(customer: str, amount: float, *, currency: str = "EUR") -> dict[str, str]:
    "Charge a customer's card, once."
    await work(0.2)
    if random.random() < 0.04:
        raise LookupError(f"no card on file for customer {customer!r}")
    return {"customer": customer, "receipt": f"{random.getrandbits(32):08x}"}


@task(name="images.resize")
def resize(path: str, *, width: int) -> str:
    "Make a smaller picture."
    time.sleep(random.lognormvariate(0, 0.4) * 0.7)
    return path.replace(".png", f"-{width}.png")


@task(name="mail.welcome", max_retries=3)
async def welcome(address: str) -> None:
    "Send the first mail."
    await work(0.1)
    if random.random() < 0.02:
        raise TimeoutError("smtp.example.net did not answer within 5 s")


@task(name="reports.render")
async def render(month: str) -> str:
    "Draw a month's report."
    await work(9)
    return f"{month}.pdf"
"""


def submit(client: SyncClient, ended: threading.Event) -> None:
    """Submit more, then fewer tasks, as a day has hours."""
    source = random.Random(7)
    number = 0
    started_at = time.monotonic()
    while not ended.wait(0.1):
        wave = 1 + math.sin((time.monotonic() - started_at) / 17)
        for _ in range(round(source.random() * 4 * wave + 0.5)):
            number += 1
            customer = f"cus_{81000 + number}"
            priority = source.choice(["critical", "high", "normal", "normal", "low"])
            chosen = client.options(priority=priority)
            match source.randrange(12):
                case 0:
                    chosen.delay("reports.render", f"2026-{number % 12 + 1:02}")
                case 1 | 2 | 3:
                    chosen.delay("images.resize", f"upload/{customer}.png", width=640)
                case 4 | 5 | 6:
                    chosen.delay("mail.welcome", f"{customer}@example.net")
                case _:
                    chosen.delay("billing.charge", customer, 49.9, currency="EUR")


def take(page: Page, root: str) -> None:
    """Take all pictures."""

    def shoot(name: str, address: str, seen: str, scheme: str, width: int, height: int) -> None:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": height})
        page.goto(f"{root}#/{address}")
        page.wait_for_selector(seen)
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        page.wait_for_timeout(1500)
        page.screenshot(path=FOLDER / f"dashboard-{name}.png")

    shoot("overview", "", ".plot path", "light", 1280, 860)
    shoot("overview-dark", "", ".plot path", "dark", 1280, 860)
    shoot("tasks", "tasks", "tbody tr", "light", 1280, 760)
    failed = page.request.get(f"{root}api/tasks?status=failure&name=billing.charge&limit=1")
    task_id = failed.json()["tasks"][0]["task_id"]
    shoot("task", f"tasks/{task_id}?status=failure", ".timeline", "light", 1280, 860)
    shoot("workers", "workers", ".worker", "dark", 1280, 760)
    shoot("phone", "", ".plot path", "dark", 390, 800)


def main() -> None:
    ended = threading.Event()
    chromium = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, open_shell(Path(folder)) as shell:
        cluster = Cluster(shell, TASKS, processes=3)
        with cluster.client() as client, sync_playwright() as playwright:
            thread = threading.Thread(target=submit, args=(client, ended))
            thread.start()
            try:
                browser = playwright.chromium.launch(
                    executable_path=chromium, args=["--no-sandbox"]
                )
                page = browser.new_page(locale="en-GB")
                page.goto(cluster.address)
                page.wait_for_selector(".plot path")
                page.wait_for_timeout(SECONDS * 1000)
                take(page, cluster.root)
                browser.close()
            finally:
                ended.set()
                thread.join()


if __name__ == "__main__":
    main()
