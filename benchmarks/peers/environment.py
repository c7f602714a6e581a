"""An environment for each peer, made once from what its script says that it needs.

A script says so as PEP 723 has it, so ``uv run celery_redis.py`` would work as well.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

# A block of TOML in comments.
_BLOCK = re.compile(r"(?m)^# /// script$\s(?P<lines>(?:^#(?:| .*)$\s)+)^# ///$")


def requirements_of(script: str) -> list[str]:
    """The ``dependencies`` in the text of a script, none if it says nothing of any."""
    block = _BLOCK.search(script)
    if block is None:
        return []
    text = "\n".join(line.removeprefix("#").strip() for line in block["lines"].splitlines())
    dependencies: list[str] = tomllib.loads(text)["dependencies"]
    return dependencies


def python_for(script: Path, cache: Path) -> Path:
    """The interpreter that has what a script needs, made in the folder ``cache`` if it must be.

    Raises:
      subprocess.CalledProcessError: pip could not install it; what it said is on stderr.
    """
    wanted = requirements_of(script.read_text())
    if not wanted:
        return Path(sys.executable)
    folder = cache / script.stem
    python = folder / "bin" / "python"
    stamp = folder / "requirements.txt"  # last of all, so half an environment has none
    text = "\n".join(wanted)
    if stamp.exists() and stamp.read_text() == text:
        return python
    print(f"installing {', '.join(wanted)}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    # The original asks for Python 3.12 though it runs on 3.11, with the same results.
    pip = [str(python), "-m", "pip", "install", "-q", "--ignore-requires-python"]
    pip += ["--disable-pip-version-check", *wanted]
    subprocess.run(pip, check=True, stdout=sys.stderr)
    stamp.write_text(text)
    return python
