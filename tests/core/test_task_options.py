"""What ``@task`` and ``options`` may be told; the rest is refused in words."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fastworker import RegistrationError, TaskFailed, TaskTimedOut
from fastworker._call_settings import CallSettings
from fastworker._core._retry import RetryOverride
from fastworker._registry import Registry, task
from fastworker._task_options import TaskOptions


def test_every_option_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {
        "timeout": 60.0,
        "grace": 3.0,
        "max_retries": 4,
        "retry_delay": 0.5,
        "backoff": 3.0,
        "max_delay": 20.0,
        "jitter": 0.5,
        "retry_on": (ValueError, OSError),
        "isolation": "process",
        "memory": 64 * 1024 * 1024,
        "recycle_after": 100,
    }
    own = Registry()
    monkeypatch.setattr("fastworker._registry.registry", own)

    @task(**options)
    def work() -> None: ...

    kept = dataclasses.asdict(own.find("work").options)
    assert kept == {"backend": None, "on_lost": "retry", **options}
    assert own.find("work").lane == "process"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", float("nan")),
        ("timeout", "5"),
        ("grace", -0.1),
        ("grace", float("inf")),
        ("max_retries", 1.5),
        ("max_retries", True),
        ("backoff", 0.5),
        ("jitter", 1.1),
        ("retry_on", "ValueError"),
        ("retry_on", (ValueError, int)),
        ("isolation", "thread"),
        ("memory", "lots"),
        ("memory", 1000),
        ("recycle_after", 0),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_with_its_value(
    option: str, value: Any
) -> None:
    options = {option: value}
    if option in ("memory", "recycle_after"):
        options["isolation"] = "process"
    with pytest.raises(RegistrationError, match=option) as caught:
        TaskOptions(**options)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("option", ["timeout", "backoff", "max_retries", "backend", "memory"])
def test_a_number_that_python_does_not_print_is_refused_like_any_other(option: str) -> None:
    with pytest.raises(RegistrationError, match=option):
        TaskOptions(**{option: -(10**5_000)})


@pytest.mark.parametrize("option", ["memory", "recycle_after"])
def test_only_a_process_can_be_limited(option: str) -> None:
    with pytest.raises(RegistrationError, match="add isolation='process'"):
        TaskOptions(**{option: 900_000 * (1 if option == "recycle_after" else 1000)})


def test_at_most_once_and_once_more_contradict_each_other() -> None:
    with pytest.raises(RegistrationError, match="leave one of them out"):
        TaskOptions(on_lost="fail", max_retries=1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 1024**2),
        ("1 GB", 10**9),
        ("1.5g", 1_500_000_000),
        ("40000000", 40_000_000),
        (2**28, 2**28),
    ],
)
def test_memory_is_bytes_or_a_text_with_a_unit(text: int | str, size: int) -> None:
    assert TaskOptions(isolation="process", memory=text).memory_bytes == size


def test_what_is_worth_a_retry_is_a_class_a_tuple_or_a_function() -> None:
    assert TaskOptions(retry_on=OSError).is_retryable(FileNotFoundError())
    assert not TaskOptions(retry_on=OSError).is_retryable(ValueError())
    assert TaskOptions(retry_on=(KeyError, OSError)).is_retryable(KeyError())
    assert TaskOptions(retry_on=lambda error: "busy" in str(error)).is_retryable(
        ValueError("busy")
    )


def raise_it(error: BaseException) -> bool:
    raise error


@pytest.mark.parametrize(
    ("retry_on", "expected"),
    [
        (Exception, True),
        (TimeoutError, True),
        (TaskTimedOut, True),
        (OSError, True),  # which a TimeoutError is
        ((KeyError, TimeoutError), True),
        (ValueError, False),
        (TaskFailed, False),
        (lambda error: "timeout" in str(error), True),
        (lambda error: False, False),
        (lambda error: error.status == 503, False),
        (raise_it, False),
    ],
)
def test_a_timeout_is_an_error_that_retry_on_may_name(retry_on: Any, expected: bool) -> None:
    assert TaskOptions(retry_on=retry_on).retries_timeouts() is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", 0),
        ("timeout", "3"),
        ("grace", -1),
        ("expires", float("nan")),
        ("max_retries", 2.0),
        ("backoff", 0),
        ("max_delay", -5),
        ("jitter", 2),
        ("retry_delay", True),
    ],
)
def test_what_a_call_wants_is_checked_before_it_is_sent(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        CallSettings(**{name: value})
    assert repr(value) in str(caught.value)


def test_a_call_that_wants_a_number_that_python_does_not_print_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_retries=\(a huge number\): use a whole number"):
        CallSettings(max_retries=10**5_000)


def test_options_are_added_to_options() -> None:
    settings = CallSettings(timeout=3.0).changed(max_retries=2, timeout=None)
    assert settings == CallSettings(timeout=3.0, max_retries=2)
    options = settings.on_the_wire(parent="p")
    assert options is not None
    assert (options.timeout, options.parent) == (3.0, "p")
    assert options.retry == RetryOverride(max_retries=2)
    assert CallSettings().on_the_wire(parent="") is None
