"""Several frames in one message, from peers that may be honest or not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker._core._bundle import (
    LARGE_BYTES,
    MAX_FRAMES,
    first_bundle,
    join,
    split,
    with_checksum,
)
from fastworker._core._messages import BATCH_BYTES, SLOT_COUNT
from fastworker._errors import RemoteProtocolError


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_what_is_joined_is_split_again(frames: list[bytes]) -> None:
    assert split(join(frames)) == frames


@given(st.binary(max_size=200))
def test_other_bytes_are_frames_or_refused(body: bytes) -> None:
    message = with_checksum(body)
    try:
        frames = split(message)
    except RemoteProtocolError:
        return
    assert join(frames) == message


@given(st.binary(max_size=200))
def test_bytes_without_a_checksum_are_refused(message: bytes) -> None:
    # Hypothesis will not guess one: four random bytes are right once in 2**32.
    with pytest.raises(RemoteProtocolError, match="checksum"):
        split(message)


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=10),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True),
)
def test_up_to_three_flipped_bits_are_always_noticed(
    frames: list[bytes], places: list[int]
) -> None:
    # N6 in docs/faults.md. By the polynomial: any three in messages of up to 91,607 bits.
    message = bytearray(join(frames))
    for place in {place % (8 * len(message)) for place in places}:
        message[place // 8] ^= 1 << place % 8
    with pytest.raises(RemoteProtocolError, match="checksum"):
        split(bytes(message))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=10), st.integers(0, 10**6))
def test_a_message_that_was_cut_is_refused(frames: list[bytes], cut: int) -> None:
    message = join(frames)
    # A cut can leave a right checksum once in 2**32, and with these it does not.
    with pytest.raises(RemoteProtocolError):
        split(message[: cut % len(message)])


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
    hostile = with_checksum(bytes(16 * 1024 * 1024))  # four million empty frames
    started_at = time.process_time()
    with pytest.raises(RemoteProtocolError, match="more than 256 frames"):
        split(hostile)
    assert time.process_time() - started_at < 0.1


def test_a_large_frame_is_joined_as_any_other_and_split_without_a_copy() -> None:
    frames = [b"small", bytes(LARGE_BYTES)]
    parts = [len(frame).to_bytes(4, "big") + frame for frame in frames]
    message = join(frames)
    assert message == with_checksum(b"".join(parts))
    small, large = split(message)
    assert (small, large) == tuple(frames)
    assert isinstance(large, memoryview)
    assert large.obj is message
