"""The parameters of a query, strictly: what is not understood is refused, with its value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fastworker._core._messages import is_name
from fastworker.dashboard._policy import Refusal

_WHOLE: Final = re.compile(r"-?[0-9]{1,19}")
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class Kind(Protocol):
    """Which values a parameter may have."""

    def parse(self, text: str) -> Any:
        """The value.

        Raises:
          ValueError: the reason why not.
        """
        ...

    def schema(self) -> dict[str, Any]:
        """The same as JSON schema."""
        ...


@dataclass(frozen=True)
class Words:
    """One of a few words."""

    words: tuple[str, ...]

    def parse(self, text: str) -> str:
        if text not in self.words:
            raise ValueError(f"use one of {', '.join(self.words)}")
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.words)}


@dataclass(frozen=True)
class Text:
    """A name, or a part of one."""

    def parse(self, text: str) -> str:
        if not is_name(text):
            raise ValueError("use 1 to 256 characters")
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": 256}


@dataclass(frozen=True)
class Whole:
    """A whole number from ``lowest`` to ``highest``."""

    lowest: int
    highest: int

    def parse(self, text: str) -> int:
        if not _WHOLE.fullmatch(text) or not self.lowest <= int(text) <= self.highest:
            raise ValueError(f"use a whole number from {self.lowest} to {self.highest}")
        return int(text)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.lowest, "maximum": self.highest}


@dataclass(frozen=True)
class Moment:
    """Seconds since 1970. 0 is one as any other."""

    latest: float = 1e11

    def parse(self, text: str) -> float:
        if not _NUMBER.fullmatch(text) or not float(text) <= self.latest:
            raise ValueError("use seconds since 1970, such as 1735689600 or 1735689600.5")
        # 0 would stand for "at any time" on the wire.
        return max(math.ulp(1.0), float(text))

    def schema(self) -> dict[str, Any]:
        # Written without an exponent.
        return {"type": "string", "pattern": "^[0-9]{1,11}(\\.[0-9]{1,9})?$"}


@dataclass(frozen=True)
class Flag:
    """true or false."""

    def parse(self, text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("use true or false")
        return text == "true"

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Parameter:
    """One of a query's. One that may be repeated is a list."""

    name: str
    kind: Kind
    description: str
    default: Any = None
    is_list: bool = False

    def schema(self) -> dict[str, Any]:
        """As JSON schema."""
        schema = self.kind.schema()
        if self.is_list:
            return {"type": "array", "items": schema, "maxItems": 16}
        return schema if self.default is None else schema | {"default": self.default}


def parse_query(
    parameters: Sequence[Parameter], pairs: Sequence[tuple[str, str]]
) -> Mapping[str, Any]:
    """The values of all parameters, from what stands in a query.

    Raises:
      Refusal: something there is not one of them, or has no such value.
    """
    known = {each.name: each for each in parameters}
    values: dict[str, Any] = {
        each.name: [] if each.is_list else each.default for each in parameters
    }
    seen: set[str] = set()
    for name, text in pairs:
        parameter = known.get(name)
        if parameter is None:
            names = ", ".join(known) or "none"
            raise bad_request(f"{_shown(name)} is no parameter here; there are: {names}")
        if name in seen and not parameter.is_list:
            raise bad_request(f"{name} was given twice")
        seen.add(name)
        try:
            value = parameter.kind.parse(text)
        except ValueError as error:
            raise bad_request(f"{name}={_shown(text)}: {error}") from None
        if not parameter.is_list:
            values[name] = value
        elif len(values[name]) == 16:
            raise bad_request(f"{name} was given more than 16 times")
        else:
            values[name].append(value)
    return values


def bad_request(message: str) -> Refusal:
    """The request cannot be understood."""
    return Refusal(400, "bad_request", message)


def _shown(text: str) -> str:
    text = repr(text)
    return text if len(text) <= 200 else f"{text[:200]}..."
