"""Ids of tasks are UUIDs of version 7."""

from __future__ import annotations

import time
import uuid

from fastworker._task_ids import new_task_id


def test_ids_are_uuids_that_grow_with_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_task_id() for _ in range(10_000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == len(ids)
    for text in ids:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
    times = [text[:13] for text in ids]
    assert times == sorted(times)


def test_all_other_bits_of_an_id_are_random() -> None:
    ids = [uuid.UUID(new_task_id()).int for _ in range(2_000)]
    for bit in [*range(62), *range(64, 76)]:
        assert 700 < sum(number >> bit & 1 for number in ids) < 1_300
