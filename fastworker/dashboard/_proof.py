"""How a dashboard shows that it has the token, without telling it.

Another program may listen where the dashboard should, and a page that is opened
there with the token in its address could read it. So the command that opens the page
asks first, with a number that was never used before.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import re
import secrets
from typing import Final
from urllib.parse import urlsplit

from fastworker.dashboard._token import Token

HEADER: Final = "x-fastworker-proof"
SECONDS: Final = 5.0
_NUMBER: Final = re.compile(r"[0-9a-f]{32}")


def prove(token: Token, number: str, port: int) -> str | None:
    """The answer to a number that somebody asks with; None if it is no such number.

    Args:
      port: where it was asked. So nobody can pass the question on to another port.
    """
    if not _NUMBER.fullmatch(number):
        return None
    text = f"fastworker proof {number} at {port}".encode()
    return hmac.new(token.text.encode(), text, hashlib.sha256).hexdigest()


def is_ours(address: str, token: Token) -> bool:
    """Whether what answers at this address has the token. Blocks for some seconds at most."""
    parts = urlsplit(address)
    number = secrets.token_hex(16)
    connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    try:
        connection.request("GET", "/livez", headers={HEADER: number})
        answer = connection.getresponse().getheader(HEADER, "")
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return hmac.compare_digest(
        answer.encode(), (prove(token, number, parts.port or 80) or "").encode()
    )
