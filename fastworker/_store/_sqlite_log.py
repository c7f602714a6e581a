"""The write-ahead log of a SQLite file after a crash: read, and mended if it was damaged.

SQLite stops at the first frame whose checksum does not fit, and forgets all that
comes after it without a word. After a power cut that is right: what comes there
was never acknowledged. After a flipped bit it is the loss of everything since. The
checksums of frames are linear, so a single wrong bit can be found from them, and
set right; and a frame that cannot be mended need not take the later ones with it:
its rows have checksums of their own.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Final

HEADER: Final = 32
FRAME_HEADER: Final = 24
PAGE_SIZE: Final = 4_096  # of the files that we make
FRAME: Final = FRAME_HEADER + PAGE_SIZE
_MAGIC: Final = 0x377F0682  # one more: checksums are made of big-endian words
_VERSION: Final = 3_007_000
_MASK: Final = 0xFFFF_FFFF
# Salts that differ in more bits than this are those of an earlier log.
_FLIPPED_BITS: Final = 2


def mend_log(path: Path) -> list[str]:
    """Mend the log beside this file, which nobody may have open.

    What it was is kept beside it. Returns lines for people; none if all was well,
    or if it ends in the middle of a transaction, as after any crash.
    """
    log = Path(f"{path}-wal")
    if not log.exists() or log.stat().st_size < HEADER + FRAME:
        return []
    mending = _Mending(log.read_bytes())
    if not mending.is_mended:
        return mending.problems(path)
    aside = Path(f"{log}.bad-{time.time_ns()}")
    os.link(log, aside)
    new = Path(f"{log}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(mending.content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, log)
    return [*mending.problems(path), f"the log as it was found is {aside}"]


class _Mending:
    """One pass over a log; ``content`` is what it should have been."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.flipped = 0  # places where one bit was set right
        self.bad = 0  # frames that are as they are
        self.has_open_end = False
        self._count = (len(content) - HEADER) // FRAME
        self._order = ">" if content[3] & 1 else "<"
        self._seed = (0, 0)
        self._salts = content[16:24]
        if self._read_header():
            self._read_frames()

    @property
    def is_mended(self) -> bool:
        """Whether ``content`` differs from what was given."""
        return bool(self.flipped or self.bad)

    def problems(self, path: Path) -> list[str]:
        """For people."""
        lines: list[str] = []
        if self.flipped:
            lines.append(f"the log of {path} had {self.flipped} flipped bits, now set right")
        if self.bad:
            lines.append(
                f"the log of {path} has {self.bad} damaged pages that cannot be mended; rows "
                f"in them are verified one by one"
            )
        if self.has_open_end:
            lines.append(
                f"the last transaction in the log of {path} is damaged, and not used: power "
                f"was cut before it was acknowledged, or a disk is failing"
            )
        return lines

    def _read_header(self) -> bool:
        header = self.content[:HEADER]
        for order in (self._order, "<" if self._order == ">" else ">"):
            if self._sum(order, (0, 0), header[:24]) == struct.unpack(">II", header[24:]):
                self._order, self._seed = order, struct.unpack(">II", header[24:])
                # A log of other pages is none of ours to mend.
                return struct.unpack(">I", header[8:12]) == (PAGE_SIZE,)
        return self._restore_header(header)

    def _restore_header(self, header: bytearray) -> bool:
        """All but the salts is known, and each frame has those as well."""
        salts = bytes(self.content[HEADER + 8 : HEADER + 16])
        frame = self.content[HEADER : HEADER + FRAME]
        for order, magic in (("<", _MAGIC), (">", _MAGIC | 1)):
            new = bytearray(struct.pack(">III", magic, _VERSION, PAGE_SIZE))
            new += header[12:16] + salts
            for sequence in (bytes(header[12:16]), *_one_bit_off(bytes(header[12:16]))):
                new[12:16] = sequence
                seed = self._sum(order, (0, 0), new)
                if self._sum(order, seed, frame[:8], frame[24:]) == _stored(frame):
                    self._order, self._seed, self._salts = order, seed, salts
                    self.content[:HEADER] = new + struct.pack(">II", *seed)
                    self.flipped += 1
                    return True
        return False  # cut off while the log was begun: nothing in it was acknowledged

    def _read_frames(self) -> None:
        last_sound = self._last_sound()
        for number in range(self._count):
            frame = self._frame(number)
            if number > last_sound and not self._is_ours(frame):
                return
            total = self._sum(self._order, self._seed, frame[:8], frame[24:])
            stored = _stored(frame)
            if total == stored and frame[8:16] == self._salts:
                self._seed = total
            elif total == stored or (
                _bits(total, stored) == 1 and not self._leads_on(number, stored)
            ):
                self._put(number, frame, total)
                self.flipped += 1
            elif (places := self._set_right(number, frame, total, stored)) == 1:
                self._put(number, frame, stored)
                self.flipped += 1
            elif number < last_sound:
                # The sums of those after it are made upon its own.
                self._put(number, frame, total)
                self.bad += 1
                self._reseal(number + 1, last_sound, stored)
                return
            elif places:
                # One bit, so it was written whole and not cut off by a crash.
                self._put(number, frame, total)
                self.bad += 1
            else:
                self.has_open_end = True
                return

    def _last_sound(self) -> int:
        """The last frame of this log that fits to the one before it, -1 if none."""
        last, seed = -1, self._seed
        for number in range(self._count):
            frame = self._frame(number)
            if self._is_ours(frame) and self._sum(
                self._order, seed, frame[:8], frame[24:]
            ) == _stored(frame):
                last = number
            seed = _stored(frame)
        return last

    def _is_ours(self, frame: bytearray) -> bool:
        differing = int.from_bytes(frame[8:16], "big") ^ int.from_bytes(self._salts, "big")
        return differing.bit_count() <= _FLIPPED_BITS

    def _reseal(self, first: int, last: int, seed: tuple[int, int]) -> None:
        """Sound frames after a bad one: give them the sums that follow from its new one."""
        for number in range(first, last + 1):
            frame = self._frame(number)
            stored = _stored(frame)
            total = self._sum(self._order, seed, frame[:8], frame[24:])
            if total != stored and self._set_right(number, frame, total, stored) != 1:
                self.bad += 1
            seed = stored
            self._put(number, frame, self._sum(self._order, self._seed, frame[:8], frame[24:]))

    def _put(self, number: int, frame: bytearray, total: tuple[int, int]) -> None:
        start = HEADER + number * FRAME
        frame[8:16] = self._salts
        frame[16:24] = struct.pack(">II", *total)
        self.content[start : start + FRAME] = frame
        self._seed = total

    def _leads_on(self, number: int, stored: tuple[int, int]) -> bool:
        """Whether the next frame was made upon this sum, so that it is the right one."""
        if number + 1 >= self._count:
            return False
        after = self._frame(number + 1)
        return self._sum(self._order, stored, after[:8], after[24:]) == _stored(after)

    def _flipped(self, word: int, bit: int) -> bytes:
        return struct.pack(f"{self._order}I", word ^ 1 << bit)

    def _fits(self, number: int, page: int) -> bool:
        """Whether this may be the page of a frame: in a transaction they ascend."""
        before = self._frame(number - 1) if number else b""
        after = self._frame(number + 1) if number + 1 < self._count else b""
        ends = self._frame(number)[4:8] != bytes(4)
        if before and before[4:8] == bytes(4) and page <= _page(before):
            return False
        return page > 0 and (ends or not after or page < _page(after))

    def _frame(self, number: int) -> bytearray:
        start = HEADER + number * FRAME
        return self.content[start : start + FRAME]

    def _set_right(
        self, number: int, frame: bytearray, total: tuple[int, int], stored: tuple[int, int]
    ) -> int:
        """Find the one bit of a frame that was flipped, and flip it back.

        Returns in how many places it may have been; it is set right only if in one.
        High bits in many places make the same difference; then it stays as it is,
        unless it is its page number that does not fit between its neighbours'.
        """
        missing = (stored[0] - total[0]) & _MASK, (stored[1] - total[1]) & _MASK
        body = frame[:8] + frame[24:]
        words = struct.unpack(f"{self._order}{len(body) // 4}I", body)
        # What one more in a word adds to both sums at the end: Fibonacci numbers, as
        # s0 += word + s1; s1 += word + s0. From the last word backwards.
        first, second = (1, 1), (0, 1)  # of the words of the last pair
        found: list[tuple[int, int]] = []
        for pair in range(len(words) // 2 - 1, -1, -1):
            for index, effect in ((2 * pair, first), (2 * pair + 1, second)):
                for bit in range(32):
                    step = 1 << bit if not words[index] >> bit & 1 else -(1 << bit)
                    if (effect[0] * step - missing[0]) & _MASK == 0 and (
                        effect[1] * step - missing[1]
                    ) & _MASK == 0:
                        found.append((index, bit))
            first, second = _one_pair_on(first), _one_pair_on(second)
        places = len(found)
        if places > 1:
            found = [
                (index, bit)
                for index, bit in found
                if index == 0
                and not self._fits(number, _page(frame))
                and self._fits(number, _page(self._flipped(words[0], bit)))
            ]
        if len(found) != 1:
            return places
        ((index, bit),) = found
        body[4 * index : 4 * index + 4] = self._flipped(words[index], bit)
        frame[:8], frame[24:] = body[:8], body[8:]
        return 1

    @staticmethod
    def _sum(order: str, seed: tuple[int, int], *parts: bytes | bytearray) -> tuple[int, int]:
        s0, s1 = seed
        for part in parts:
            words = iter(struct.unpack(f"{order}{len(part) // 4}I", part))
            for first, second in zip(words, words, strict=True):
                s0 = (s0 + first + s1) & _MASK
                s1 = (s1 + second + s0) & _MASK
        return s0, s1


def _one_pair_on(effect: tuple[int, int]) -> tuple[int, int]:
    """What an effect on both sums has become a pair of words later."""
    s0 = (effect[0] + effect[1]) & _MASK
    return s0, (effect[1] + s0) & _MASK


def _page(frame: bytes | bytearray) -> int:
    return int.from_bytes(frame[:4], "big")


def _stored(frame: bytearray) -> tuple[int, int]:
    first, second = struct.unpack(">II", frame[16:24])
    return first, second


def _bits(one: tuple[int, int], other: tuple[int, int]) -> int:
    return (one[0] ^ other[0]).bit_count() + (one[1] ^ other[1]).bit_count()


def _one_bit_off(word: bytes) -> list[bytes]:
    number = int.from_bytes(word, "big")
    return [(number ^ 1 << bit).to_bytes(4, "big") for bit in range(32)]
