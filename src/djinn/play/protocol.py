"""Messages between the page and the server over the websocket.

The page sends JSON texts, one object each: `{"type": TYPE, ...}`. `message_schemas` lists all types
and their fields. The server sends JSON texts (`welcome`, `settings`, `recording`, `error`, `bye`)
and frames. A frame is one binary message: the length of the header (2 bytes, big-endian), the
header as JSON, and the image as PNG, WebP or JPEG.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from djinn.errors import UserError
from djinn.models.action_syntax import action_code

IMAGE_FORMATS = ("png", "webp", "jpeg")
MAX_MESSAGE_LENGTH = 4096
MAX_SEED = 2**53 - 1
MAX_STEPS = 64
MAX_TEMPERATURE = 5.0
MAX_FPS = 240.0


@dataclass(frozen=True)
class Number:
    """Field that holds a number in the closed interval `[low, high]`."""

    low: float
    high: float
    integer: bool = True
    optional: bool = False

    def check(self, name: str, value: Any) -> int | float:
        """Return the value.

        Raises:
            UserError: The value has the wrong type or is out of range.
        """
        valid_type = isinstance(value, int) if self.integer else isinstance(value, int | float)
        if not valid_type or isinstance(value, bool) or not self.low <= value <= self.high:  # NaN fails, too
            kind = "an integer" if self.integer else "a number"
            raise UserError(f"'{name}' must be {kind} from {self.low:g} to {self.high:g}, got {_short(value)}.")
        return value if self.integer else float(value)


@dataclass(frozen=True)
class Action:
    """Field that holds the code or the name of a latent action."""

    names: Sequence[str]
    """Names in order of their codes. Read at every message, so that renaming takes effect."""
    optional: bool = False

    def check(self, name: str, value: Any) -> int:
        """Return the code of the action.

        Raises:
            UserError: The world has no such action.
        """
        if isinstance(value, str):
            try:
                return action_code(value, self.names)
            except UserError as error:
                raise UserError(f"'{name}': {error}.") from None
        return int(Number(0, len(self.names) - 1).check(name, value))


@dataclass(frozen=True)
class Choice:
    """Field that holds one of several words."""

    words: tuple[str, ...]
    optional: bool = False

    def check(self, name: str, value: Any) -> str:
        """Return the value.

        Raises:
            UserError: The value is not one of the words.
        """
        if not isinstance(value, str) or value not in self.words:
            raise UserError(f"'{name}' must be one of {', '.join(self.words)}, got {_short(value)}.")
        return value


Schema = dict[str, Number | Action | Choice]


def message_schemas(action_names: Sequence[str], prompts: int) -> dict[str, Schema]:
    """Return the fields of every message type that the page may send.

    | type | effect |
    |---|---|
    | `hold` | play frames with an action until `release`; a later `hold` replaces it |
    | `release` | stop playing |
    | `step` | play one frame |
    | `ack` | frame `number` is displayed; the server is at most two frames ahead |
    | `undo` | go back by `frames`, 1 by default |
    | `reset` | return to the prompt, optionally with a new seed |
    | `prompt`, `upload` | start from a prompt of the world, or from an uploaded image |
    | `sampler`, `frame_rate`, `image` | change settings |
    | `record` | start, stop or discard a recording |

    `timestamp` is the clock of the page in milliseconds. It is returned with the next frame, from
    which the page computes the latency.

    Args:
        action_names: Names of the world's latent actions, in order of their codes.
        prompts: Number of prompts.
    """
    timestamp = Number(0, 1e15, integer=False, optional=True)
    action = Action(action_names)
    return {
        "hold": {"action": action, "timestamp": timestamp},
        "release": {},
        "step": {"action": action, "timestamp": timestamp},
        "ack": {"number": Number(0, 2**53), "timestamp": timestamp},
        "undo": {"frames": Number(1, 1000, optional=True)},
        "reset": {"seed": Number(0, MAX_SEED, optional=True)},
        "prompt": {"index": Number(0, max(prompts - 1, 0))},
        "upload": {"index": Number(0, 1000)},
        "sampler": {
            "steps": Number(1, MAX_STEPS, optional=True),
            "temperature": Number(0, MAX_TEMPERATURE, integer=False, optional=True),
        },
        "frame_rate": {"fps": Number(0, MAX_FPS, integer=False)},
        "image": {"format": Choice(IMAGE_FORMATS)},
        "record": {"command": Choice(("start", "stop", "discard"))},
    }


def parse_message(text: str, schemas: dict[str, Schema]) -> tuple[str, dict[str, Any]]:
    """Parse and validate one message of the page.

    Args:
        text: The message.
        schemas: Allowed messages, from `message_schemas`.

    Returns:
        The message type and its fields. Optional fields that are not given are left out.

    Raises:
        UserError: The text is not a JSON object, its type is unknown, or a field is missing,
            unknown or invalid.
    """
    if len(text) > MAX_MESSAGE_LENGTH:
        raise UserError(f"The message is too long: the limit is {MAX_MESSAGE_LENGTH} characters.")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError("The message is not valid JSON.") from None
    if not isinstance(data, dict):
        raise UserError(f"A message must be a JSON object, got {_short(data)}.")
    message_type = data.pop("type", None)
    if not isinstance(message_type, str) or message_type not in schemas:
        raise UserError(f"Unknown message type {_short(message_type)}; valid types are {', '.join(schemas)}.")
    schema = schemas[message_type]
    for name in data:
        if name not in schema:
            raise UserError(
                f"Message '{message_type}' has no field {_short(name)}; its fields are: {', '.join(schema) or 'none'}."
            )
    values = {}
    for name, field in schema.items():
        if name in data:
            values[name] = field.check(name, data[name])
        elif not field.optional:
            raise UserError(f"Message '{message_type}' needs the field '{name}'.")
    return message_type, values


def pack_frame(header: dict[str, Any], image: bytes) -> bytes:
    """Join the header and the encoded image of a frame into one binary message."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack(">H", len(head)) + head + image


def unpack_frame(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Split a binary message into header and encoded image; the inverse of `pack_frame`."""
    (length,) = struct.unpack_from(">H", message)
    return json.loads(message[2 : 2 + length]), message[2 + length :]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
