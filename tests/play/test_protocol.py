import json

import pytest

from djinn.errors import UserError
from djinn.play.protocol import MAX_MESSAGE_LENGTH, message_schemas, pack_frame, parse_message, unpack_frame

NAMES = ["left", "right", "up", "jump + right", "action 4", "action 5"]
SCHEMAS = message_schemas(NAMES, prompts=2)


@pytest.mark.parametrize(
    ("text", "message_type", "fields"),
    [
        ('{"type": "hold", "action": 5}', "hold", {"action": 5}),
        ('{"type": "hold", "action": 0, "timestamp": 12.5}', "hold", {"action": 0, "timestamp": 12.5}),
        ('{"type": "hold", "action": "right"}', "hold", {"action": 1}),
        ('{"type": "step", "action": "Jump + Right"}', "step", {"action": 3}),
        ('{"type": "step", "action": "5"}', "step", {"action": 5}),
        ('{"type": "release"}', "release", {}),
        ('{"type": "sampler", "temperature": 2}', "sampler", {"temperature": 2.0}),
        ('{"type": "reset", "seed": 7}', "reset", {"seed": 7}),
        ('{"type": "image", "format": "webp"}', "image", {"format": "webp"}),
    ],
)
def test_valid_message_is_parsed(text: str, message_type: str, fields: dict[str, object]) -> None:
    assert parse_message(text, SCHEMAS) == (message_type, fields)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 2000, "not valid JSON"),
        ("9" * 4000, "JSON"),
        ("null", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ('{"action": 1}', "Unknown message type None"),
        ('{"type": "explode"}', "Unknown message type 'explode'"),
        ('{"type": ["hold"]}', "Unknown message"),
        ('{"type": "hold"}', "needs the field 'action'"),
        ('{"type": "hold", "action": 6}', "'action' must be an integer from 0 to 5, got 6"),
        ('{"type": "hold", "action": -1}', "from 0 to 5"),
        ('{"type": "hold", "action": 1.0}', "an integer"),
        ('{"type": "hold", "action": true}', "an integer"),
        ('{"type": "hold", "action": "rigth"}', "unknown action 'rigth'; did you mean 'right'"),
        ('{"type": "hold", "action": "6"}', "action 6 is out of range"),
        ('{"type": "hold", "action": null}', "an integer"),
        ('{"type": "hold", "action": 1, "power": 9}', "no field 'power'"),
        ('{"type": "sampler", "temperature": NaN}', "'temperature' must be a number"),
        ('{"type": "sampler", "temperature": 1e999}', "'temperature' must be a number"),
        ('{"type": "sampler", "steps": 0}', "'steps'"),
        ('{"type": "frame_rate", "fps": -1}', "'fps'"),
        ('{"type": "frame_rate", "fps": 1' + "0" * 400 + "}", "'fps' must be a number"),
        ('{"type": "hold", "action": 1' + "0" * 400 + "}", "from 0 to 5"),
        ('{"type": "reset", "seed": 1e3}', "'seed'"),
        ('{"type": "image", "format": "bmp"}', "one of png, webp, jpeg"),
        ('{"type": "image", "format": {}}', "one of png, webp, jpeg"),
        ('{"type": "prompt", "index": 2}', "from 0 to 1"),
        (json.dumps({"type": "x" * MAX_MESSAGE_LENGTH}), "too long"),
    ],
)
def test_invalid_message_raises_user_error(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        parse_message(text, SCHEMAS)


def test_renamed_action_is_accepted_under_new_name() -> None:
    names = ["action 0", "action 1"]
    schemas = message_schemas(names, prompts=0)
    names[1] = "jump"
    assert parse_message('{"type": "step", "action": "jump"}', schemas) == ("step", {"action": 1})


def test_unpack_inverts_pack() -> None:
    header = {"number": 3, "ms": {"dynamics": 1.5}}
    assert unpack_frame(pack_frame(header, b"\x00image")) == (header, b"\x00image")
