"""The task of ``fastworker demo``; also an example of a task module."""

from __future__ import annotations

import hashlib
from typing import Final, TypedDict

from fastworker import task

_BLOCK: Final = 1 << 20


class FileFacts(TypedDict):
    """What ``hash_file`` tells of a file."""

    sha256: str
    bytes: int
    lines: int


@task
def hash_file(path: str | bytes) -> FileFacts:
    """Read one file: its SHA-256, its size, and how many lines it has.

    A last line without a newline counts too, as editors count.
    """
    digest = hashlib.sha256()
    size = lines = 0
    last = b"\n"
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
            lines += block.count(b"\n")
            last = block[-1:]
    if last != b"\n":
        lines += 1
    return {"sha256": digest.hexdigest(), "bytes": size, "lines": lines}
