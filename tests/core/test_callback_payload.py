"""What a callback says, and that no result or data can make it say something else."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._callback_payload import encode_payload
from fastworker._core._messages import MAX_ITEM_BYTES, Callback, TaskEvent, WireStatus
from fastworker._json_encoder import encode_json_value
from fastworker._transport._limits import check_frame_size

JSON, PICKLE = 1, 2
KEYS = [
    "event_id",
    "task_id",
    "status",
    "result",
    "error",
    "started_at",
    "completed_at",
    "callback_data",
    "attempts",
    "delivery",
]


def a_callback(data: bytes = b'{"order":7}') -> Callback:
    return Callback("tcp://127.0.0.1:9000", "e1", data)


def a_success(payload: bytes = b"3", format: int = JSON, **more: Any) -> TaskEvent:
    return TaskEvent("t1", WireStatus.SUCCESS, format, payload, **more)


def said(event: TaskEvent, callback: Callback | None = None, delivery: int = 1) -> Any:
    return json.loads(encode_payload(callback or a_callback(), event, delivery))


def test_a_success_has_its_result_and_no_error() -> None:
    event = a_success(b'{"a":[1,2]}', started=1.5, completed=2.0, attempts=2)
    payload = said(event, delivery=3)
    assert list(payload) == KEYS
    assert payload == {
        "event_id": "e1",
        "task_id": "t1",
        "status": "success",
        "result": {"a": [1, 2]},
        "error": None,
        "started_at": "1970-01-01T00:00:01.500000+00:00",
        "completed_at": "1970-01-01T00:00:02+00:00",
        "callback_data": {"order": 7},
        "attempts": 2,
        "delivery": 3,
    }


@pytest.mark.parametrize("status", [WireStatus.FAILURE, WireStatus.CANCELLED])
def test_another_end_has_an_error_and_no_result(status: WireStatus) -> None:
    payload = said(TaskEvent("t1", status, error="ValueError: bad"))
    assert list(payload) == KEYS
    assert payload["status"] == status.name.lower()
    assert payload["error"] == "ValueError: bad"
    assert payload["result"] is None
    assert payload["started_at"] is payload["completed_at"] is None


def test_a_pickle_goes_in_base64_and_is_never_opened() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("it was unpickled",)

    pickled = pickle.dumps(Bomb())
    payload = said(a_success(pickled, PICKLE))
    assert payload["result"] is None
    assert payload["result_format"] == "pickle"
    assert base64.b64decode(payload["result_base64"]) == pickled


def test_a_json_result_goes_in_as_the_bytes_it_is() -> None:
    text = b'{"n": 10000000000000000000000000001, "f":1.10, "twice":1, "twice":2}'
    assert b'"result":' + text + b"," in encode_payload(a_callback(), a_success(text), 1)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"1,2",
        b'1,"status":"failure"',
        b'1},{"x":2',
        b'{"a":}',
        b"NaN",
        b'"\xff"',
        b'"a\nb"',
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 100_000,
        b"\x00",
    ],
    ids=lambda data: repr(data[:12]),
)
def test_bytes_that_only_claim_to_be_json_change_nothing_around_them(broken: bytes) -> None:
    payload = said(a_success(broken), a_callback(broken))
    assert payload["status"] == "success"
    assert payload["result"] is None
    assert payload["result_format"] == "json"
    assert base64.b64decode(payload["result_base64"]) == broken
    assert payload["callback_data"] is None
    assert list(payload)[: len(KEYS)] == KEYS


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_whatever_the_bytes_are_the_payload_is_one_object(result: bytes, data: bytes) -> None:
    payload = json.loads(encode_payload(a_callback(data), a_success(result), 1))
    assert set(KEYS) <= set(payload)
    assert payload["task_id"] == "t1"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_characters="$", exclude_categories=["Cs"])),
                      inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(json_values, json_values)
def test_every_plain_result_and_every_plain_data_is_embedded(result: Any, data: Any) -> None:
    event = a_success(encode_json_value(result))
    payload = said(event, a_callback(encode_json_value(data)))
    assert payload["result"] == result
    assert payload["callback_data"] == data
    assert "result_base64" not in payload


@pytest.mark.parametrize("format", [JSON, PICKLE, 77])
@pytest.mark.parametrize("size", [MAX_ITEM_BYTES * 3 // 4, MAX_ITEM_BYTES])
def test_every_payload_fits_into_a_message(format: int, size: int) -> None:
    longest = "\x01" * 256
    data = b'"' + b"d" * (256 * 1024 - 2) + b'"'
    result = b'"' + b"r" * (size - 2) + b'"'
    event = a_success(result, format, error="\x01" * 4096)
    event = TaskEvent(longest, WireStatus.SUCCESS, format, result, "\x01" * 4096)
    encoded = encode_payload(Callback("tcp://h:1", longest, data), event, 10)
    check_frame_size(encoded)
    payload = json.loads(encoded)
    fits = format == JSON or size < MAX_ITEM_BYTES
    assert payload.get("result_omitted", False) is not fits
    if not fits:
        assert payload["result"] is None
        assert "result_base64" not in payload


def test_a_value_that_was_dropped_is_said_to_be_missing() -> None:
    payload = said(a_success(b"", value_dropped=True))
    assert payload["result"] is None
    assert payload["result_omitted"] is True
