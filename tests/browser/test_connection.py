"""Coming in, losing the control plane, and having it back."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import WebSocketRoute, expect

from tests.browser.cluster import Cluster
from tests.browser.operator_page import Operator

pytestmark = pytest.mark.browser


def test_a_visit_without_a_token_says_how_to_come_in(
    visit: Callable[..., Operator], cluster: Cluster
) -> None:
    operator = visit(cluster)
    operator.page.goto(cluster.root)
    expect(operator.page.locator("main")).to_contain_text("fastworker dashboard")
    operator.page.get_by_label("Or paste the token here").fill("x" * 43)
    operator.button("Sign in").click()
    expect(operator.page.locator(".note-bad")).to_be_visible()
    operator.page.get_by_label("Or paste the token here").fill(cluster.token)
    operator.button("Sign in").click()
    expect(operator.heading).to_have_text("Overview")
    operator.forget("status of 40[13]")


def test_the_token_does_not_stay_in_the_address(operator: Operator, cluster: Cluster) -> None:
    assert "token" not in operator.page.url
    operator.page.goto(cluster.address)
    expect(operator.page).to_have_url(re.compile(r"/#/$"))
    operator.button("Sign out").click()
    expect(operator.heading).to_have_text("Sign in")
    operator.go("tasks")
    expect(operator.heading).to_have_text("Sign in")
    operator.forget("status of 401")


def test_when_the_session_has_ended_one_signs_in_again(operator: Operator) -> None:
    expect(operator.page.locator(".side-foot")).to_contain_text("Live")
    operator.page.context.clear_cookies()
    operator.go("callbacks")
    expect(operator.heading).to_have_text("Sign in")
    operator.forget("status of 401")


def test_a_control_plane_that_does_not_answer_is_told_from_one_that_is_gone(
    operator: Operator,
) -> None:
    sockets: list[WebSocketRoute] = []
    answers = threading.Event()
    answers.set()

    def connect(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda text: socket.send(text) if answers.is_set() else None)
        sockets.append(socket)

    operator.page.route_web_socket(re.compile("api/live"), connect)
    operator.page.reload()
    expect(operator.page.locator(".side-foot")).to_contain_text("Live")
    answers.clear()
    sockets[0].send('{"type": "lost", "message": "nobody <b>answers</b>"}')
    banner = operator.page.locator("#banner")
    expect(banner).to_contain_text("does not answer: nobody <b>answers</b>")
    expect(operator.button("Try now")).to_be_hidden()
    sockets[0].send('{"type": "beat"}')
    expect(operator.page.locator(".side-foot")).to_contain_text("No answer")
    answers.set()
    expect(banner).to_be_hidden()


def test_a_lost_connection_is_said_and_comes_back(
    visit: Callable[..., Operator], own_cluster: Cluster
) -> None:
    own_cluster.submit("add", 1, 2)
    operator = visit(own_cluster).sign_in()
    expect(operator.page.locator(".side-foot")).to_contain_text("Live")
    banner = operator.page.locator("#banner")
    expect(banner).to_be_hidden()

    own_cluster.stop()
    expect(banner).to_contain_text("The connection to the control plane is lost")
    expect(banner).to_contain_text(re.compile(r"Trying again in \d+ s"))
    operator.go("tasks")
    expect(operator.page.get_by_text("cannot be reached")).to_be_visible()

    own_cluster.restart()
    operator.page.evaluate("dispatchEvent(new Event('online'))")
    expect(banner).to_be_hidden(timeout=30_000)
    expect(operator.page.locator(".side-foot")).to_contain_text("Live")
    # The list that could not be loaded is there without being asked for.
    expect(operator.rows).to_have_count(1)
    operator.forget("ERR_CONNECTION|WebSocket")
