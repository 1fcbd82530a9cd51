import json

import pytest

from djinn.errors import UserError
from djinn.play.protocol import LONGEST_MESSAGE, messages, pack_frame, parse, unpack_frame

KNOWN = messages(actions=6, prompts=2)


@pytest.mark.parametrize(
    ("text", "kind", "fields"),
    [
        ('{"type": "hold", "action": 5}', "hold", {"action": 5}),
        ('{"type": "hold", "action": 0, "stamp": 12.5}', "hold", {"action": 0, "stamp": 12.5}),
        ('{"type": "release"}', "release", {}),
        ('{"type": "sampler", "temperature": 2}', "sampler", {"temperature": 2.0}),
        ('{"type": "reset", "seed": 7}', "reset", {"seed": 7}),
        ('{"type": "image", "format": "webp"}', "image", {"format": "webp"}),
    ],
)
def test_a_right_message_is_read(text: str, kind: str, fields: dict[str, object]) -> None:
    assert parse(text, KNOWN) == (kind, fields)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 2000, "not valid JSON"),
        ("9" * 4000, "JSON"),
        ("null", "must be a JSON object"),
        ("[1]", "must be a JSON object"),
        ('{"action": 1}', "Unknown message None"),
        ('{"type": "explode"}', "Unknown message 'explode'"),
        ('{"type": ["hold"]}', "Unknown message"),
        ('{"type": "hold"}', "needs the field 'action'"),
        ('{"type": "hold", "action": 6}', "'action' must be a whole number from 0 to 5, got 6"),
        ('{"type": "hold", "action": -1}', "from 0 to 5"),
        ('{"type": "hold", "action": 1.0}', "whole number"),
        ('{"type": "hold", "action": true}', "whole number"),
        ('{"type": "hold", "action": "1"}', "whole number"),
        ('{"type": "hold", "action": null}', "whole number"),
        ('{"type": "hold", "action": 1, "power": 9}', "no field 'power'"),
        ('{"type": "sampler", "temperature": NaN}', "'temperature' must be a number"),
        ('{"type": "sampler", "temperature": 1e999}', "'temperature' must be a number"),
        ('{"type": "sampler", "steps": 0}', "'steps'"),
        ('{"type": "pace", "fps": -1}', "'fps'"),
        ('{"type": "pace", "fps": 1' + "0" * 400 + "}", "'fps' must be a number"),
        ('{"type": "hold", "action": 1' + "0" * 400 + "}", "from 0 to 5"),
        ('{"type": "reset", "seed": 1e3}', "'seed'"),
        ('{"type": "image", "format": "bmp"}', "one of png, webp, jpeg"),
        ('{"type": "image", "format": {}}', "one of png, webp, jpeg"),
        ('{"type": "prompt", "index": 2}', "from 0 to 1"),
        (json.dumps({"type": "x" * LONGEST_MESSAGE}), "too long"),
    ],
)
def test_a_wrong_message_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        parse(text, KNOWN)


def test_a_frame_goes_there_and_back() -> None:
    header = {"number": 3, "ms": {"dynamics": 1.5}}
    assert unpack_frame(pack_frame(header, b"\x00picture")) == (header, b"\x00picture")
