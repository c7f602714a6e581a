"""Several frames in one message, from peers that may be honest or not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._bundle import MAX_FRAMES, first_bundle, join, split
from fastworker._core._messages import BATCH_BYTES, SLOT_COUNT
from fastworker._errors import RemoteProtocolError


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_what_is_joined_is_split_again(frames: list[bytes]) -> None:
    assert split(join(frames)) == frames


@given(st.binary(max_size=200))
def test_other_bytes_are_frames_or_refused(message: bytes) -> None:
    try:
        frames = split(message)
    except RemoteProtocolError:
        return
    assert join(frames) == message


@given(st.lists(st.integers(0, 3 * BATCH_BYTES // 2), min_size=1, max_size=6))
def test_bundles_are_batches_of_at_least_one(sizes: list[int]) -> None:
    frames = [bytes(size) for size in sizes]
    count = first_bundle(frames)
    assert 1 <= count <= len(frames)
    assert count == 1 or sum(sizes[:count]) <= BATCH_BYTES
    assert count == len(frames) or sum(sizes[: count + 1]) > BATCH_BYTES


def test_a_message_has_room_for_all_slots_and_not_for_millions_of_frames() -> None:
    assert MAX_FRAMES > 4 * SLOT_COUNT
    many = [b"x"] * (MAX_FRAMES + 1)
    assert first_bundle(many) == MAX_FRAMES
    assert len(split(join(many[:MAX_FRAMES]))) == MAX_FRAMES
    with pytest.raises(RemoteProtocolError, match="more than 256 frames"):
        split(join(many))
    hostile = bytes(16 * 1024 * 1024)  # four million empty frames
    started_at = time.process_time()
    with pytest.raises(RemoteProtocolError):
        split(hostile)
    assert time.process_time() - started_at < 0.1
