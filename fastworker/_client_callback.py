"""A callback as a client asks for it, checked before anything is sent."""

from __future__ import annotations

from typing import Any, Final

from fastworker._core._messages import MAX_CALLBACK_DATA_BYTES, Callback
from fastworker._errors import ConfigurationError, NotEncodable, PayloadTooLarge
from fastworker._json_encoder import encode_json_value
from fastworker._transport._address import split_address

_MAX_HOST_LENGTH: Final = 255


def make_callback(address: str, data: dict[str, Any] | None, event_id: str) -> Callback:
    """Make what travels with a task.

    Raises:
      ConfigurationError: the control plane could not connect to this address.
      NotEncodable: ``data`` is no dict that JSON can say.
      PayloadTooLarge: ``data`` has more than 256 KiB.
    """
    if not isinstance(address, str):
        raise ConfigurationError(
            f"callback_address={address!r}: write it as a text such as 'tcp://127.0.0.1:9000'"
        )
    try:
        scheme, host, port = split_address(address, listening=False)
    except ConfigurationError as error:
        raise ConfigurationError(f"callback_address: {error}") from None
    if scheme != "tcp":
        raise ConfigurationError(
            f"callback_address={address[:80]!r}: a listener for callbacks is a plain socket; "
            f"write it as 'tcp://{host}:{port}'"
        )
    if len(host) > _MAX_HOST_LENGTH:
        raise ConfigurationError(
            f"callback_address={address[:80]!r}...: a host has at most "
            f"{_MAX_HOST_LENGTH} characters, not {len(host)}"
        )
    if data is not None and not isinstance(data, dict):
        raise NotEncodable(f"callback_data is of type {type(data).__name__}; pass a dict")
    encoded = encode_json_value(data, "callback_data")
    if len(encoded) > MAX_CALLBACK_DATA_BYTES:
        raise PayloadTooLarge("callback_data", len(encoded), MAX_CALLBACK_DATA_BYTES)
    return Callback(f"tcp://{host}:{port}", event_id, encoded)
