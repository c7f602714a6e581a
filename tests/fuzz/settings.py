"""Settings from variables and from programs: used, or refused as wrong configuration."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from fastworker._client import Client
from fastworker._config import (
    ClientConfig,
    CommandConfig,
    ControlPlaneConfig,
    DashboardConfig,
    SubWorkerConfig,
)
from fastworker._errors import ConfigurationError, RegistrationError
from fastworker._models import SerializationFormat
from fastworker._task_options import TaskOptions
from fastworker.dashboard._token import Token
from tests.fuzz.hostile_texts import a_typed_text, a_typed_word

CONFIGS: Final[list[Any]] = [
    ClientConfig,
    CommandConfig,
    ControlPlaneConfig,
    DashboardConfig,
    SubWorkerConfig,
]
_CALL_SETTINGS: Final = [
    name for name in inspect.signature(Client.options).parameters if name != "self"
]


class Settings:
    """See the module's first lines."""

    name = "settings"
    share = 60.0
    life = 1

    def live(self, cases: Iterable[Random]) -> None:
        for rng in cases:
            chance = rng.random()
            if chance < 0.9:
                _config(rng)
            elif chance < 0.97:
                _of_a_task(rng)
            else:
                _refused_or_fine(partial(Token, a_typed_text(rng) * rng.choice([1, 8])))


def _config(rng: Random) -> None:
    kind = rng.choice(CONFIGS)
    fields = dataclasses.fields(kind)
    variables = [v for each in fields if (v := each.metadata["variable"]) is not None]
    environ = {
        name: a_typed_word(rng)
        for name in rng.sample(variables, rng.randrange(min(4, len(variables)) + 1))
    }
    arguments = {
        each.name: rng.choice([a_typed_text, a_value])(rng)
        for each in rng.sample(fields, rng.choice([0, 0, 1, 2]))
    }
    if kind is SubWorkerConfig:
        # Without these all would end there.
        environ.setdefault("FASTWORKER_WORKER_ID", "w1")
        environ.setdefault("FASTWORKER_CONTROL_PLANE_ADDRESS", "tcp://127.0.0.1:5560")
    _refused_or_fine(lambda: _use(kind.resolve(environ, **arguments)))


def _use(config: Any) -> None:
    if isinstance(config, DashboardConfig):
        config.refuse_exposure()
    for name in ("discovery", "base", "management", "addresses", "address", "control_plane"):
        address = getattr(config, name, None)
        str(address)
    # What was accepted is accepted again, and means the same.
    again = type(config)(**dataclasses.asdict(config))
    if again != config:
        raise AssertionError(f"{config} is read as {again} the second time")


def _of_a_task(rng: Random) -> None:
    if rng.random() < 0.5:
        given = {name: a_value(rng) for name in rng.sample(_CALL_SETTINGS, rng.randrange(1, 4))}
        _refused_or_fine(lambda: Client().options(**given), ValueError)
        return
    names = [each.name for each in dataclasses.fields(TaskOptions)]
    given = {name: a_value(rng) for name in rng.sample(names, rng.randrange(1, 4))}
    _refused_or_fine(lambda: TaskOptions(**given), RegistrationError)


def _refused_or_fine(
    use: Callable[[], object], refusal: type[Exception] = ConfigurationError
) -> None:
    try:
        use()
    except refusal as error:
        # A line that a terminal can show.
        str(error).encode("utf-8", "backslashreplace")


def a_value(rng: Random) -> Any:
    """Whatever a program may hand over."""
    return rng.choice(
        [
            a_typed_text(rng),
            rng.choice([None, True, False, ..., b"x", object(), type, abs]),
            rng.choice([0, -1, 1, 5555, 2**31, 2**64, 10**400, 10**5_000, -(10**5_000)]),
            rng.choice([0.0, -0.0, 1e-400, 1.5, -1.0, 1e308, math.inf, -math.inf, math.nan]),
            rng.choice([(), [], {}, set(), ["a"], ("x", 1), [a_typed_text(rng)], {"a": 1}]),
            rng.choice([Path("x"), Path("."), decimal.Decimal("1"), decimal.Decimal("sNaN")]),
            rng.choice(
                [datetime.timedelta(1), SerializationFormat.JSON, ValueError, Exception]
            ),
        ]
    )
