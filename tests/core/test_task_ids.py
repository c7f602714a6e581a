"""Ids of tasks are UUIDs of version 7."""

from __future__ import annotations

import multiprocessing
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

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


def test_no_two_threads_get_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda _: [new_task_id() for _ in range(5_000)], range(8))
    ids = [task_id for some in made for task_id in some]
    assert len(set(ids)) == len(ids) == 40_000


def test_a_forked_process_goes_on_with_ids_of_its_own() -> None:
    ids = [new_task_id()]  # so that there are digits left
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send([new_task_id() for _ in range(300)]))
    child.start()
    ids += ours.recv() + [new_task_id() for _ in range(300)]
    child.join()
    assert len({text[14:] for text in ids}) == 601
