"""The files of the page. What is served is what the package has, known before anybody asks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.responses import Response

from fastworker.dashboard._operations import Call
from fastworker.dashboard._policy import Refusal

FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain",
}


@dataclass(frozen=True)
class File:
    """A file, read."""

    content: bytes
    media_type: str
    tag: str

    def response(self, status: int = 200, *, may_be_kept: bool = True) -> Response:
        """An answer of it."""
        response = Response(self.content, status, media_type=self.media_type)
        if may_be_kept:
            # Kept, and asked for each time whether it is still the same.
            response.headers["cache-control"] = "no-cache"
            response.headers["etag"] = self.tag
        return response


class Files:
    """All files of a folder, by their path below it.

    Nothing is opened by a name that a visitor has sent, so there is no way out.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, File] = {}
        for path in sorted(folder.rglob("*")):
            media_type = _TYPES.get(path.suffix)
            if media_type is not None and path.is_file():
                content = path.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
                self._files[path.relative_to(folder).as_posix()] = File(
                    content, media_type, tag
                )

    def __getitem__(self, name: str) -> File:
        return self._files[name]

    async def serve(self, call: Call) -> Response:
        """Answer with the file in the path."""
        file = self._files.get(call.path["path"])
        if file is None:
            raise Refusal(404, "not_found", "there is no such file")
        if file.tag in call.request.headers.get("if-none-match", ""):
            headers = {"etag": file.tag, "cache-control": "no-cache"}
            return Response(status_code=304, headers=headers)
        return file.response()

    async def page(self, call: Call) -> Response:
        """Answer with the page itself."""
        return self._files["index.html"].response(may_be_kept=False)
