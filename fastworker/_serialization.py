"""Arguments and results to bytes and back, in the format that a client chose.

The control plane never calls this: payloads are opaque to it. Clients and
lanes do, and theirs are the only errors: NotEncodable and NotDecodable.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

from fastworker._errors import NotDecodable, NotEncodable
from fastworker._json_decoder import decode_json_arguments, decode_json_value
from fastworker._json_encoder import encode_json_arguments, encode_json_value
from fastworker._models import SerializationFormat

# The numbers on the wire. They never change their meaning.
FORMAT_IDS: Final[dict[SerializationFormat, int]] = {
    SerializationFormat.JSON: 1,
    SerializationFormat.PICKLE: 2,
}
FORMATS: Final[dict[int, SerializationFormat]] = {
    number: format for format, number in FORMAT_IDS.items()
}

_PICKLE_PROTOCOL: Final = 5


def encode_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], format: SerializationFormat
) -> bytes:
    """Encode the arguments of one call.

    In JSON each value arrives equal and of the same type, except that a tuple
    arrives as a list; ``args`` itself stays a tuple.

    Raises:
      NotEncodable: an argument cannot travel in this format. The message has
          the path to it, its type and what to pass instead.
    """
    if format is SerializationFormat.JSON:
        return encode_json_arguments(args, kwargs)
    return _pickle((args, kwargs), "the arguments")


def decode_arguments(
    data: bytes, format: SerializationFormat
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Decode what ``encode_arguments`` made.

    PICKLE runs whatever code the bytes name: the caller decides before
    whether their sender may do that.

    Raises:
      NotDecodable: the bytes are not the arguments of a call.
    """
    if format is SerializationFormat.JSON:
        return decode_json_arguments(data)
    match _unpickle(data, "the arguments"):
        case (tuple() as args, dict() as kwargs) if all(isinstance(key, str) for key in kwargs):
            return args, kwargs
        case other:
            raise NotDecodable(
                f"the pickle holds a {type(other).__qualname__}, not (args, kwargs)"
            )


def encode_result(value: Any, format: SerializationFormat) -> bytes:
    """Encode what a task function returned.

    Raises:
      NotEncodable: the value cannot travel in this format. The message has
          the path to it, its type and what to return instead.
    """
    if format is SerializationFormat.JSON:
        return encode_json_value(value)
    return _pickle(value, "the result")


def decode_result(data: bytes, format: SerializationFormat) -> Any:
    """Decode what ``encode_result`` made.

    PICKLE runs whatever code the bytes name: the caller decides before
    whether their sender may do that.

    Raises:
      NotDecodable: the bytes are not a value in this format.
    """
    if format is SerializationFormat.JSON:
        return decode_json_value(data)
    return _unpickle(data, "the result")


def _pickle(value: Any, what: str) -> bytes:
    try:
        return pickle.dumps(value, protocol=_PICKLE_PROTOCOL)
    except Exception as error:
        # Anything: pickling calls the __reduce__ of the user's own classes.
        raise NotEncodable(
            f"{what} cannot be pickled: {type(error).__name__}: {error}"
        ) from error


def _unpickle(data: bytes, what: str) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301 - the caller has decided to trust the sender
    except Exception as error:
        # Anything: unpickling imports modules and calls what they hold.
        raise NotDecodable(
            f"{what} cannot be unpickled: {type(error).__name__}: {error}"
        ) from error
