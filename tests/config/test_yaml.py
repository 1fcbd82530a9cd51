import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from djinn.config import StageConfig, TrainConfig, WorldConfig
from djinn.config.presets import PRESETS
from djinn.config.yaml import from_dict, load_yaml, save_yaml, to_dict
from djinn.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_config_round_trips_through_yaml(name, tmp_path):
    save_yaml(PRESETS[name], tmp_path / "config.yaml")
    assert load_yaml(TrainConfig, tmp_path / "config.yaml") == PRESETS[name]
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_yaml_has_plain_types_only():
    loaded = yaml.safe_load(yaml.safe_dump(to_dict(TrainConfig())))
    assert loaded["tokenizer"]["betas"] == [0.9, 0.9]


def test_missing_keys_take_their_defaults():
    assert from_dict(WorldConfig, {"height": 90}) == WorldConfig(height=90)
    assert from_dict(StageConfig, {"lr": 1, "min_lr": 0}).lr == 1.0


def test_booleans_and_strings_of_yaml_are_converted(tmp_path):
    (tmp_path / "c.yaml").write_text("compile: off\ntokenizer: {lr: 1e-3, min_lr: 1e-4}\n")
    config = load_yaml(TrainConfig, tmp_path / "c.yaml")
    assert (config.compile, config.tokenizer.lr, config.tokenizer.min_lr) == ("off", 1e-3, 1e-4)
    with pytest.raises(UserError, match=r"'tokenizer\.lr' must be of type float, got 'fast'"):
        from_dict(TrainConfig, {"tokenizer": {"lr": "fast"}})
    with pytest.raises(UserError, match=r"'tokenizer\.minutes' must be of type float, got True"):
        from_dict(TrainConfig, {"tokenizer": {"minutes": True}})


def test_failed_write_leaves_no_file(tmp_path, monkeypatch):
    def disk_full(path, text, encoding):
        path.write_bytes(b"")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(tmp_path), "write_text", disk_full)
    with pytest.raises(UserError, match="no space left"):
        save_yaml(TrainConfig(), tmp_path / "config.yaml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"hight": 64}, "unknown config key 'hight'"),
        ({"tokenizer": {"encoder": {"depth": 4}}}, "unknown config key 'tokenizer.encoder.depth'; known here: blocks"),
        ({"height": "64"}, "'height' must be of type int, got '64'"),
        ({"height": True}, "'height' must be of type int"),
        ({"context_frames": 16.0}, "'context_frames' must be of type int"),
        ({"dynamics": {"action": "concat"}}, "'dynamics.action' must be one of add, prepend, got 'concat'"),
        ({"tokenizer": 3}, "config tokenizer must be a mapping"),
        ({"tokenizer": {"quantizer": {"levels": 8}}}, "'tokenizer.quantizer.levels' must be a list"),
    ],
)
def test_invalid_value_is_refused_by_key(data, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        from_dict(WorldConfig, data)


def test_tuple_of_wrong_length_is_refused():
    with pytest.raises(UserError, match="'betas' must have 2 values"):
        from_dict(StageConfig, {"betas": [0.9]})


@pytest.mark.parametrize(
    "text", ["{", "\x00", "- 1\n- 2", "", "a: !!python/object/apply:os.getcwd []", "fps: 2024-99-99", "[" * 5000]
)
def test_invalid_yaml_is_refused_by_file(text, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml"):
        load_yaml(WorldConfig, path)


def test_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"there is no file at .*config\.yaml"):
        load_yaml(WorldConfig, tmp_path / "config.yaml")


@settings(max_examples=50, deadline=None)
@given(
    st.builds(
        StageConfig,
        steps=st.integers(1, 10**9),
        minutes=st.none() | st.floats(0.01, 1e5),
        lr=st.floats(1e-3, 1),
        min_lr=st.floats(0, 1e-3),
        betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
        schedule=st.sampled_from(["cosine", "wsd", "constant"]),
    )
)
def test_any_stage_config_round_trips_through_yaml(stage):
    assert from_dict(StageConfig, yaml.safe_load(yaml.safe_dump(to_dict(stage)))) == stage
