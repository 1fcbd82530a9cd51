import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from djinn.errors import UserError
from djinn.models.world import World


@pytest.mark.parametrize("kind", ["ema", "gradient", "fsq"])
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_world_round_trips_through_its_folder(make_world, tmp_path, kind, dtype):
    world = make_world(kind=kind)
    world.action_names[2], world.action_keys[2] = "jump", ["ArrowUp"]
    world.save_pretrained(tmp_path / "world", dtype=dtype)
    assert {p.name for p in (tmp_path / "world").iterdir()} == {
        "config.yaml",
        "model.safetensors",
        "actions.yaml",
        "latent_action.safetensors",
    }
    loaded = World.from_pretrained(tmp_path / "world", device="cpu")
    assert not loaded.training
    assert loaded.config == world.config
    assert loaded.action_names == world.action_names
    assert loaded.action_keys == world.action_keys
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == "fp16" else {"rtol": 0, "atol": 0}
    state = loaded.state_dict()
    for key, value in world.state_dict().items():
        torch.testing.assert_close(state[key], value, **tolerance)
    if dtype == "fp32":
        clip = torch.randint(256, (2, 4, 12, 10, 3), dtype=torch.uint8)
        assert torch.equal(loaded.encode(clip), world.encode(clip))
        assert torch.equal(loaded.infer_actions(clip), world.infer_actions(clip))
        tokens = torch.randint(16, (1, 3, 9))
        assert torch.equal(loaded.decode(tokens), world.decode(tokens))


@pytest.mark.parametrize("size", [10**21, 10**12])
def test_config_with_excessive_sizes_is_refused(saved, size):
    _, folder = saved
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["dynamics"]["transformer"]["d_model"] = size
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"cannot build a world of the sizes in .*config\.yaml"):
        World.from_pretrained(folder, "cpu")


@pytest.mark.parametrize("file", ["model.safetensors", "latent_action.safetensors"])
def test_wrong_tensor_key_or_shape_is_refused_by_name(saved, file):
    _, folder = saved
    tensors = load_file(folder / file)
    key = next(k for k in tensors if k.endswith("to_code.weight"))

    def load(changed, message):
        save_file(changed, folder / file)
        with pytest.raises(UserError, match=message):
            World.from_pretrained(folder, "cpu")

    load({k: v for k, v in tensors.items() if k != key}, f"{file}.*lacks.*{key}")
    load({**tensors, "extra": torch.zeros(1)}, f"{file}.*unknown.*extra")
    load({**tensors, key: torch.zeros(3, 5)}, rf"{key}.*\(3, 5\)")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("model.safetensors", "tokenizer.decoder.blocks.0.ffn_in.weight"),
        ("model.safetensors", "action_vectors"),
        ("latent_action.safetensors", "quantizer.codebook"),
    ],
)
def test_non_finite_tensor_is_refused_at_load(saved, file, key, value):
    _, folder = saved
    tensors = load_file(folder / file)
    tensors[key].view(-1)[1] = value
    save_file(tensors, folder / file)
    with pytest.raises(UserError, match=rf"{file}: tensor '{key}' has 1 of \d+ values that are not finite"):
        World.from_pretrained(folder, "cpu")


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("model.safetensors", "dynamics.to_logits.bias"),
        ("latent_action.safetensors", "latent_action.to_code.weight"),
    ],
)
def test_non_finite_tensor_is_refused_at_save(saved, make_world, file, key):
    world, folder = saved
    broken = make_world(seed=9)
    broken.state_dict()[key].view(-1)[0] = float("nan")
    name = key.removeprefix("latent_action.")
    with pytest.raises(UserError, match=rf"cannot save {file}: tensor '{name}' has 1 of \d+ values that are not"):
        broken.save_pretrained(folder)
    assert torch.equal(World.from_pretrained(folder, "cpu").action_vectors, world.action_vectors)
    assert [p.name for p in folder.parent.iterdir()] == ["world"]


def test_weight_beyond_the_range_of_fp16_is_refused_at_save(make_world, tmp_path):
    world = make_world()
    world.dynamics.to_logits.bias.data[0] = 1e6
    with pytest.raises(UserError, match=r"tensor 'dynamics\.to_logits\.bias' .*not finite.*dtype='fp32'"):
        world.save_pretrained(tmp_path / "world", dtype="fp16")
    world.save_pretrained(tmp_path / "world", dtype="fp32")


def test_unknown_dtype_is_refused(make_world, tmp_path):
    with pytest.raises(UserError, match="fp16"):
        make_world().save_pretrained(tmp_path / "world", dtype="int4")


def test_invalid_files_are_refused_by_name(saved):
    _, folder = saved
    valid = (folder / "model.safetensors").read_bytes()
    for invalid in (b"", b"not safetensors at all", valid[: len(valid) // 2]):
        (folder / "model.safetensors").write_bytes(invalid)
        with pytest.raises(UserError, match=r"model\.safetensors"):
            World.from_pretrained(folder, "cpu")
    (folder / "model.safetensors").write_bytes(valid)

    config = (folder / "config.yaml").read_text()
    for invalid in ("{", "- 1", "height: tall", "hight: 64", "context_frames: 1"):
        (folder / "config.yaml").write_text(invalid)
        with pytest.raises(UserError, match=r"config\.yaml"):
            World.from_pretrained(folder, "cpu")
    (folder / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml"):
        World.from_pretrained(folder, "cpu")
    (folder / "config.yaml").write_text(config)

    actions = yaml.safe_load((folder / "actions.yaml").read_text())
    first, *others = actions["actions"]
    entries = [{**first, "keys": "ArrowUp"}, {**first, "keys": None}, {**first, "name": None}, {**first, "keys": [[]]}]
    texts = [yaml.safe_dump({"actions": actions}) for actions in (others, *([entry, *others] for entry in entries))]
    for invalid in ("actions: 3", "[", "nothing: here", *texts):
        (folder / "actions.yaml").write_text(invalid)
        with pytest.raises(UserError, match=r"actions\.yaml"):
            World.from_pretrained(folder, "cpu")


@pytest.mark.parametrize(
    "file",
    ["config.yaml", "model.safetensors", "latent_action.safetensors", "actions.yaml", "prompts", "prompts/00.png"],
)
def test_unreadable_files_are_not_called_missing(saved, public_folder, unprivileged, file):
    world, folder = saved
    shutil.copytree(folder, public_folder / "world")
    (public_folder / "world" / "prompts").mkdir(exist_ok=True)
    size = (world.config.width, world.config.height)
    Image.new("RGB", size).save(public_folder / "world" / "prompts" / "00.png")
    path = public_folder / "world" / file
    path.chmod(0o000)
    with unprivileged(), pytest.raises(UserError, match=f"^no permission to read {path}: change the permissions"):
        World.from_pretrained(public_folder / "world", "cpu")
    path.chmod(0o755)


def test_prompts_are_saved_and_an_invalid_one_is_refused_by_name(make_world, tmp_path):
    world = make_world()
    size = (world.config.height, world.config.width, 3)
    world.prompts = [np.full(size, 10 * i, np.uint8) for i in range(3)]
    world.save_pretrained(tmp_path / "world")
    loaded = World.from_pretrained(tmp_path / "world", "cpu")
    assert all((a == b).all() for a, b in zip(loaded.prompts, world.prompts, strict=True))
    (tmp_path / "world" / "prompts" / "bad.png").write_text("text")
    with pytest.raises(UserError, match=r"bad\.png is not a readable image"):
        World.from_pretrained(tmp_path / "world", "cpu")


def test_prompts_are_not_duplicated_by_loading_and_saving(saved):
    world, folder = saved
    world.prompts = [np.full((world.config.height, world.config.width, 3), i, np.uint8) for i in range(101)]
    world.save_pretrained(folder)
    Image.new("RGB", (10, 12), "red").save(folder / "prompts" / "cat.png")
    names = sorted(p.name for p in (folder / "prompts").iterdir())
    for _ in range(3):
        World.from_pretrained(folder, "cpu").save_pretrained(folder)
        assert sorted(p.name for p in (folder / "prompts").iterdir()) == names
    assert len(World.from_pretrained(folder, "cpu").prompts) == 102
