"""One setting: which values it may have, and whether it comes from an argument,
a variable or a default.

A *kind* accepts values from programs (``check``) and text from variables
(``parse``) by the same rules. It raises ValueError with the reason only; who
knows the setting's name puts that and the offending value before it.
"""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from fastworker._core._callback_addresses import parse_allowed
from fastworker._errors import ConfigurationError
from fastworker._models import SerializationFormat
from fastworker._transport._address import TLS_SCHEME, split_address

T = TypeVar("T")
_T_co = TypeVar("_T_co", covariant=True)

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def resolve(
    argument: T | None,
    variable: str,
    default: T,
    parse: Callable[[str], T],
    *,
    environ: Mapping[str, str],
) -> T:
    """Take the argument if one was given, else the variable, else the default.

    None means "not given", so that an argument that happens to equal the
    default still beats the variable. A variable that is empty is not set.

    Raises:
      ConfigurationError: the variable cannot be parsed; the message names it.
    """
    if argument is not None:
        return argument
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable}={text!r}: {error}") from None


class Kind(Protocol[_T_co]):
    """Which values a setting may have."""

    def check(self, value: Any) -> _T_co:
        """Accept a value from a program, normalised.

        Raises:
          ValueError: the reason why not.
        """
        ...

    def parse(self, text: str) -> _T_co:
        """Accept the text of a variable; raises as ``check`` does."""
        ...


@dataclass(frozen=True)
class Address:
    """An address of a socket; ``host`` keeps the brackets of IPv6."""

    host: str
    port: int
    scheme: str = "tcp"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def with_port(self, port: int) -> Address:
        """The same host at another port."""
        return Address(self.host, port, self.scheme)

    @property
    def has_tls(self) -> bool:
        """Whether TLS is spoken there."""
        return self.scheme == TLS_SCHEME

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. Unknown names count as reachable."""
        host = self.host.strip("[]").partition("%")[0]
        if host.lower() == "localhost":
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


def parse_address(text: str, *, listening: bool = True) -> Address:
    """Parse ``tcp://host:port`` or ``tls+tcp://host:port``.

    Port 0, any free one, makes sense to listen only.

    Raises:
      ConfigurationError: it is no such address. The message shows it.
    """
    scheme, host, port = split_address(text, listening=listening)
    return Address(host, port, scheme)


@dataclass(frozen=True)
class AddressText:
    """An address that stays the text it is, once it is known to be one."""

    listening: bool

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(value, "a str such as 'tcp://127.0.0.1:5555'")
        parse_address(value, listening=self.listening)
        return value

    def parse(self, text: str) -> str:
        return self.check(text)


@dataclass(frozen=True)
class WholeNumber:
    """An int from ``lowest`` to ``highest``."""

    lowest: int
    highest: int

    def check(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(value, "a whole number")
        if not self.lowest <= value <= self.highest:
            raise ValueError(f"must be from {self.lowest} to {self.highest}")
        return value

    def parse(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError("must be a whole number") from None
        return self.check(value)


@dataclass(frozen=True)
class Seconds:
    """A positive, finite number of seconds."""

    def check(self, value: Any) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _wrong_type(value, "a number of seconds")
        if not 0 < value < math.inf:
            raise ValueError("must be a positive, finite number of seconds")
        try:
            float(value)
        except OverflowError:
            raise ValueError("is more seconds than a float can hold") from None
        return value

    def parse(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError("must be a number of seconds, such as 30 or 0.5") from None
        return self.check(int(value) if value.is_integer() else value)


@dataclass(frozen=True)
class Switch:
    """On or off."""

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise _wrong_type(value, "True or False")
        return value

    def parse(self, text: str) -> bool:
        text = text.lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise ValueError("use 1 or 0, true or false, yes or no, on or off")


@dataclass(frozen=True)
class Label:
    """A short text that people and logs can show, such as a worker id."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(value, "a str")
        if not value or value != value.strip() or not value.isprintable() or len(value) > 200:
            raise ValueError("use 1 to 200 printable characters, with no space at the ends")
        return value

    def parse(self, text: str) -> str:
        return self.check(text)


@dataclass(frozen=True)
class StoreName:
    """ "memory", or the path of a file."""

    def check(self, value: Any) -> str:
        if not isinstance(value, (str, os.PathLike)):
            raise _wrong_type(value, "'memory', or the path of a file")
        text = os.fspath(value)
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise ValueError("use 'memory', or the path of a file")
        return text

    def parse(self, text: str) -> str:
        return self.check(text)


@dataclass(frozen=True)
class Host:
    """A host to listen on, with or without the brackets of IPv6."""

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(value, "a str such as '127.0.0.1'")
        host = f"[{value}]" if ":" in value and not value.startswith("[") else value
        try:
            return parse_address(f"tcp://{host}:0").host
        except ConfigurationError:
            raise ValueError("use a host such as '127.0.0.1', '::1' or 'localhost'") from None

    def parse(self, text: str) -> str:
        return self.check(text)


@dataclass(frozen=True)
class HostNames:
    """Names under which browsers know a server; as text, separated by commas or spaces."""

    def check(self, value: Any) -> tuple[str, ...]:
        is_list = isinstance(value, (list, tuple))
        if not is_list or not all(isinstance(name, str) for name in value):
            raise _wrong_type(value, "a list of host names")
        return tuple(map(_host_name, value))

    def parse(self, text: str) -> tuple[str, ...]:
        return self.check(tuple(text.replace(",", " ").split()))


@dataclass(frozen=True)
class CallbackPlaces:
    """Where callbacks may go; as text, separated by commas or spaces."""

    def check(self, value: Any) -> tuple[str, ...]:
        is_list = isinstance(value, (list, tuple))
        if not is_list or not all(isinstance(place, str) for place in value):
            raise _wrong_type(value, "a list of hosts and networks")
        for place in value:
            parse_allowed(place)
        return tuple(value)

    def parse(self, text: str) -> tuple[str, ...]:
        return self.check(tuple(text.replace(",", " ").split()))


def _host_name(text: str) -> str:
    name = text.strip().lower()
    if name.count(":") > 1 and not name.startswith("["):
        name = f"[{name}]"
    host, colon, port = name, "", ""
    if not name.endswith("]"):
        before, colon, port = name.rpartition(":")
        host = before if colon else port
    is_plain = host.isascii() and all(c.isalnum() or c in "-._:[]" for c in host)
    if not host or not is_plain or (colon and not port.isdigit()):
        raise ValueError(
            f"{text[:100]!r} is no host name; use one such as 'tasks.example.com', with a "
            f"port if it is not that of http or https"
        )
    return name


@dataclass(frozen=True)
class Choice:
    """One of a few words, in the case they are listed in."""

    words: tuple[str, ...]

    def check(self, value: Any) -> str:
        for word in self.words:
            if isinstance(value, str) and value.lower() == word.lower():
                return word
        raise ValueError(f"use {' or '.join(map(repr, self.words))}")

    def parse(self, text: str) -> str:
        return self.check(text)


@dataclass(frozen=True)
class Format:
    """A SerializationFormat, or its name."""

    def check(self, value: Any) -> SerializationFormat:
        try:
            return SerializationFormat.parse(value)
        except ValueError:
            raise ValueError("use 'json' or 'pickle'") from None

    def parse(self, text: str) -> SerializationFormat:
        return self.check(text)


@dataclass(frozen=True)
class ModuleNames:
    """Names of task modules; as text, separated by commas or spaces."""

    def check(self, value: Any) -> tuple[str, ...]:
        is_list = isinstance(value, (list, tuple))
        if not is_list or not all(isinstance(name, str) for name in value):
            raise _wrong_type(value, "a list of module names")
        return tuple(value)

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(text.replace(",", " ").split())


@dataclass(frozen=True)
class OrNone:
    """A kind that may also be None; no variable says None."""

    kind: Kind[Any]

    def check(self, value: Any) -> Any:
        return None if value is None else self.kind.check(value)

    def parse(self, text: str) -> Any:
        return self.kind.parse(text)


LISTEN_ADDRESS: Final = AddressText(listening=True)
DIAL_ADDRESS: Final = AddressText(listening=False)
HOST: Final = Host()
HOST_NAMES: Final = HostNames()
CALLBACK_PLACES: Final = CallbackPlaces()
PORT: Final = WholeNumber(0, 65535)
SECONDS: Final = Seconds()
SWITCH: Final = Switch()
LABEL: Final = Label()
STORE: Final = OrNone(StoreName())
FORMAT: Final = Format()
BACKEND: Final = Choice(("trio", "asyncio"))
LOG_LEVEL: Final = Choice(_LOG_LEVELS)
LOG_FORMAT: Final = Choice(("text", "json"))
MODULES: Final = ModuleNames()


def _wrong_type(value: object, wanted: str) -> ValueError:
    return ValueError(f"is a {type(value).__qualname__}, must be {wanted}")
