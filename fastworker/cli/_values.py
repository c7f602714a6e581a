"""Options with several values, and values as users type them.

click has no options that take several values, and reads ``-5`` as an option.
So such options are rewritten before click sees them: ``--args -5 3`` becomes
``--args=-5 --args=3``, which click collects by ``multiple=True``. All of it is
pure, so it is tested with any argument list there is.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

# In place of a value, JSON or not: what comes after is values only.
_END_OF_OPTIONS: Final = "--"


def gather_values(
    arguments: Sequence[str], *, several: frozenset[str], takes_value: Mapping[str, bool]
) -> list[str]:
    """Rewrite each option of ``several`` to one ``--option=value`` for each value.

    Its values go on to the next long option of the command; after a ``--``
    they go on to the end. The option may be given again, and as ``--option=value``.

    Args:
      arguments: what was typed after the command's name.
      several: the long options that take any number of values.
      takes_value: of each long option of the command, whether a value follows.

    Raises:
      click.UsageError: a value looks like a mistyped long option.
    """
    result: list[str] = []
    rest = iter(arguments)
    current: str | None = None
    for argument in rest:
        name, equals, value = argument.partition("=")
        if argument == _END_OF_OPTIONS:
            if current is None:
                result.append(argument)
                result.extend(rest)
            else:
                result.extend(f"{current}={value}" for value in rest)
        elif name in several:
            current = name
            if equals:
                result.append(f"{name}={value}")
        elif name in takes_value:
            current = None
            result.append(argument)
            if takes_value[name] and not equals:
                result.extend(_next_of(rest))
        elif current is None:
            result.append(argument)
        else:
            if _is_like_an_option(name):
                raise click.UsageError(_no_such_option(name, current, takes_value))
            result.append(f"{current}={argument}")
    return result


def _next_of(rest: Any) -> list[str]:
    return [value for value in [next(rest, None)] if value is not None]


def _is_like_an_option(name: str) -> bool:
    return name.startswith("--") and name[2:3].isalpha()


def _no_such_option(name: str, current: str, known: Mapping[str, bool]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return (
        f"No such option: {name}. {hint}"
        f"If it is a value, put '--' before it: {current} -- {name}"
    )


class CommandWithLists(click.Command):
    """A command some of whose options take several values, up to the next option.

    Those are the ones that were declared with ``multiple=True``.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        several: set[str] = set()
        takes_value: dict[str, bool] = {}
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Option):
                continue
            both = [*parameter.opts, *parameter.secondary_opts]
            names = [name for name in both if name.startswith("--")]
            if parameter.multiple:
                several.update(names)
            takes_value.update(dict.fromkeys(names, not parameter.is_flag))
        try:
            args = gather_values(args, several=frozenset(several), takes_value=takes_value)
        except click.UsageError as error:
            # A line that is being completed may be anything.
            if not ctx.resilient_parsing:
                error.ctx = ctx
                raise
        return super().parse_args(ctx, args)


def parse_value(text: str) -> Any:
    """Read a value: what is JSON as JSON, anything else as the text itself.

    ``5`` is an int, ``'"5"'`` the str "5", ``hello`` the str "hello". NaN and
    Infinity, which JSON does not have, are text.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # RecursionError: nested so deep that it could not be sent as JSON.
        return text


def parse_object(
    ctx: click.Context, parameter: click.Parameter, text: str | None
) -> dict[str, Any] | None:
    """Read an option's value as a JSON object.

    Raises:
      click.BadParameter: it is something else.
    """
    if text is None:
        return None
    example = """such as '{"x": 1}'"""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(
            f"{_short(text)} is not JSON ({error}); give an object, {example}"
        ) from None
    if not isinstance(value, dict):
        kind = _KINDS.get(type(value), "null")
        raise click.BadParameter(f"{_short(text)} is {kind}; give an object, {example}")
    return value


_KINDS: Final = {
    list: "an array",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
}


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
