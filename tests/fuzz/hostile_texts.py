"""Hostile texts: what may be typed, or stand in a variable.

Nearly right ones above all: a number, an address, a duration or JSON with a few characters
changed. Bytes that are no UTF-8 arrive as halves of surrogate pairs, as from ``sys.argv``.
"""

from __future__ import annotations

import json
from random import Random
from typing import Final

from tests.fuzz.hostile_messages import a_json, a_json_value

_KINDS: Final = [
    text.split()
    for text in (
        # Numbers.
        "0 -0 1 -1 5 30 0.5 -5 1e3 1e308 1e309 -1e400 nan NaN inf -Infinity 1_000 0x10 007 "
        "\u0663 \uff11\uff12 \u00b2 65535 65536 2147483648 9223372036854775808 "
        "18446744073709551616 1e-400 .5 5. + - . e 9007199254740993 4611686018427387905",
        # Durations.
        "90s 10m 2h 7d 1.5h 0s 5 1e5s 7w \u0663d 1.m .5s 1..5m 99999999999999999999d 1e3",
        # Addresses and hosts.
        "tcp://127.0.0.1:5555 tcp://[::1]:5555 tcp://0.0.0.0:1 tcp://localhost:65535 "
        "tcp://h:0 tcp://h:65536 tcp://:1 tcp://[::ffff:127.0.0.1]:9 tcp://[fe80::1%eth0]:9 "
        "tcp://[:::::]:1 tcp://[%a]:1 tcp://1.2.3:4 tcp://999.0.0.1:1 tcp://h..:1 memory://x "
        "tcp://h:99999 tcp://h:007 ipc:///tmp/x TCP://h:1 tcp://h:\u0661 http://h:1 "
        "tcp://h:1/ tcp://[::1:5 ::1 [::1] 0.0.0.0 localhost [fe80::1%1] tcp://[1.2.3.4]:5 "
        "tcp://[::1%]:5 *.example.com a:b:c tasks.example.com:443 [::]: :: : h:\u00b2 [x]:y",
        # Words.
        "json pickle JSON trio asyncio true FALSE yes off INFO debug text critical low pending "
        "success failure none all memory w1 control-plane tasks add mytasks a,b a.b.c -- - "
        "--args --kwargs --help -h --version --json --no-gui --bogus --args=5 ~ / . .. ../x "
        "/dev/null tasks.db * % $HOME {} [] null '' \\ = =x x= @file ; | &",
    )
]
_JSON: Final = (
    '{"x": 1}', '{"x":', "[1,2", '{"a":1,"a":2}', '"\\ud800"', '{"\\ud800": 1}', "NaN", "[NaN]",
    "9" * 5_000, "[" * 5_000, "[" * 9_000 + "]" * 9_000,
    '{"a":' * 500 + "1" + "}" * 500, '{"$set": [1]}', '{"$bytes": 1}',
    '{"": ""}', "[1e999]", "-", '"\\u0000"', "true", " 1 ", "\ufeff1", '{"self": 1, "args": 2}',
)  # fmt: skip
_LONG: Final = ("", " ", "x" * 300, "9" * 400, "9" * 5_000, "é" * 257, "-" * 100_000)
_CHARACTERS: Final = (
    "aZ09 -_=:,.;/\\%[]{}()'\"*?<>|&$#@!~`^+\0\n\r\t\x1b\x7f\x85\xa0é²\u0663\u200b\u202e\u2028"
    "\ufeff\ufffd\U0001f600\ud800\udcff\udc80"
)


def a_typed_text(rng: Random) -> str:
    """One word of a command line, or the text of a variable."""
    chance = rng.random()
    if chance < 0.02:
        return rng.choice(
            ["", " ", "x" * 300, "9" * 400, "9" * 5_000, "é" * 257, "-" * 100_000]
        )
    if chance < 0.1:
        return "".join(rng.choice(_CHARACTERS) for _ in range(rng.randrange(1, 12)))
    if chance < 0.25:
        return a_json_text(rng)
    text = rng.choice(rng.choice(_KINDS))
    return text if rng.random() < 0.6 else _changed(rng, text)


def a_typed_word(rng: Random) -> str:
    """As the operating system hands it over."""
    return as_a_word(a_typed_text(rng))


def as_a_word(text: str) -> str:
    """Bytes without a NUL, less than 128 KiB of them, decoded."""
    raw = text.replace("\0", "").encode("utf-8", "surrogatepass")
    return raw[:130_000].decode("utf-8", "surrogateescape")


def a_json_text(rng: Random) -> str:
    """JSON, or nearly."""
    match rng.randrange(3):
        case 0:
            return rng.choice(_JSON)
        case 1:
            return json.dumps(a_json_value(rng, 3), ensure_ascii=rng.random() < 0.5)
        case _:
            return a_json(rng).decode("utf-8", "surrogateescape")


def _changed(rng: Random, text: str) -> str:
    characters = list(text)
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(len(characters) + 1)
        match rng.randrange(4):
            case 0:
                characters[position:position] = [rng.choice(_CHARACTERS)]
            case 1:
                characters[position : position + 1] = []
            case 2:
                characters[position : position + 1] = [rng.choice(_CHARACTERS)]
            case _:
                characters *= rng.choice([1, 2, 30])
    return "".join(characters)[:100_000]
