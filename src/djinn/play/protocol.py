"""What page and server say to each other over the websocket.

The page sends JSON texts, one object each, `{"type": NAME, ...}`; `messages` lists every name and its fields. The
server answers with JSON texts (`welcome`, `settings`, `tape`, `error`, `bye`) and with frames. A frame is one binary
message: two bytes with the length of the header (big-endian), the header as JSON, and the picture as PNG, WebP or JPEG.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from djinn.errors import UserError

IMAGE_FORMATS = ("png", "webp", "jpeg")
LONGEST_MESSAGE = 4096
LARGEST_SEED = 2**53 - 1
MOST_STEPS = 64
HIGHEST_TEMPERATURE = 5.0
HIGHEST_FPS = 240.0


@dataclass(frozen=True)
class Number:
    """A field that holds a number inside a range, whole or not."""

    low: float
    high: float
    whole: bool = True
    optional: bool = False

    def check(self, name: str, value: Any) -> int | float:
        """Returns the value, or raises `UserError` saying what it should have been."""
        right = isinstance(value, int) if self.whole else isinstance(value, int | float)
        if not right or isinstance(value, bool) or not self.low <= value <= self.high:  # NaN is in no range
            kind = "a whole number" if self.whole else "a number"
            raise UserError(f"'{name}' must be {kind} from {self.low:g} to {self.high:g}, got {_short(value)}.")
        return value if self.whole else float(value)


@dataclass(frozen=True)
class Choice:
    """A field that holds one of a few words."""

    words: tuple[str, ...]
    optional: bool = False

    def check(self, name: str, value: Any) -> str:
        """Returns the value, or raises `UserError` naming the words allowed."""
        if not isinstance(value, str) or value not in self.words:
            raise UserError(f"'{name}' must be one of {', '.join(self.words)}, got {_short(value)}.")
        return value


Fields = dict[str, Number | Choice]


def messages(actions: int, prompts: int) -> dict[str, Fields]:
    """Every message a page may send to a world of `actions` latent actions and `prompts` prompts, with its fields.

    `hold` plays frame after frame until `release`; a later `hold` takes the place of an earlier one. `step` plays one
    frame. `seen` says that a frame is on the screen: the server is never more than two frames ahead of it. `stamp` is
    the page's clock, sent back with the next frame, for the latency on the page.
    """
    stamp = Number(0, 1e15, whole=False, optional=True)
    action = Number(0, actions - 1)
    return {
        "hold": {"action": action, "stamp": stamp},
        "release": {},
        "step": {"action": action, "stamp": stamp},
        "seen": {"number": Number(0, 2**53), "stamp": stamp},
        "undo": {"frames": Number(1, 1000, optional=True)},
        "reset": {"seed": Number(0, LARGEST_SEED, optional=True)},
        "prompt": {"index": Number(0, max(prompts - 1, 0))},
        "upload": {"index": Number(0, 1000)},
        "sampler": {
            "steps": Number(1, MOST_STEPS, optional=True),
            "temperature": Number(0, HIGHEST_TEMPERATURE, whole=False, optional=True),
        },
        "pace": {"fps": Number(0, HIGHEST_FPS, whole=False)},
        "image": {"format": Choice(IMAGE_FORMATS)},
        "record": {"do": Choice(("start", "stop", "discard"))},
    }


def parse(text: str, known: dict[str, Fields]) -> tuple[str, dict[str, Any]]:
    """Reads one message strictly.

    Args:
        text: what arrived.
        known: the messages allowed, from `messages`.

    Returns:
        The message's name and its checked fields; optional fields that were left out are left out here too.

    Raises:
        UserError: it is no JSON object, its type is unknown, or a field is missing, unknown or wrong.
    """
    if len(text) > LONGEST_MESSAGE:
        raise UserError(f"That message is too long: at most {LONGEST_MESSAGE} characters are read.")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError("That message is not valid JSON.") from None
    if not isinstance(data, dict):
        raise UserError(f"A message must be a JSON object, got {_short(data)}.")
    kind = data.pop("type", None)
    if not isinstance(kind, str) or kind not in known:
        raise UserError(f"Unknown message {_short(kind)}; known are {', '.join(known)}.")
    fields = known[kind]
    for name in data:
        if name not in fields:
            raise UserError(f"Message '{kind}' has no field {_short(name)}; it takes {', '.join(fields) or 'none'}.")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = field.check(name, data[name])
        elif not field.optional:
            raise UserError(f"Message '{kind}' needs the field '{name}'.")
    return kind, values


def pack_frame(header: dict[str, Any], picture: bytes) -> bytes:
    """Joins a frame's header and its picture into one binary message."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack(">H", len(head)) + head + picture


def unpack_frame(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Takes a binary message apart into the frame's header and its picture; the inverse of `pack_frame`."""
    (length,) = struct.unpack_from(">H", message)
    return json.loads(message[2 : 2 + length]), message[2 + length :]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
