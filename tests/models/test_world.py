import numpy as np
import pytest
import torch
from PIL import Image

from djinn.errors import UserError
from djinn.models.world import World, build


def random_video(batch=2, frames=4):
    return torch.randint(256, (batch, frames, 12, 10, 3), dtype=torch.uint8)


def test_action_vectors_equal_the_latent_action_codebook(make_world):
    world = make_world()
    assert torch.equal(world.action_vectors, world.latent_action.quantizer.codes())
    assert world.num_actions == 5


def test_world_without_latent_action_model_cannot_infer_actions(saved):
    world, folder = saved
    (folder / "latent_action.safetensors").unlink()
    loaded = World.from_pretrained(folder, device="cpu")
    assert torch.equal(loaded.action_vectors, world.action_vectors)
    with pytest.raises(UserError, match=r"latent_action\.safetensors"):
        loaded.infer_actions(random_video())


@pytest.mark.unchecked
def test_video_shape_and_dtype_are_checked(make_world):
    world = make_world()
    for invalid in (random_video()[..., :9, :], random_video()[0], random_video().float()):
        with pytest.raises(UserError, match=r"\(B, T, 12, 10, 3\)"):
            world.encode(invalid)
    assert world.encode(random_video()).shape == (2, 4, 9)
    assert world.infer_actions(random_video()).shape == (2, 3)
    decoded = world.decode(world.encode(random_video()))
    assert decoded.shape == (2, 4, 12, 10, 3)
    assert decoded.dtype == torch.uint8


def test_fit_image_has_the_frame_size(make_world):
    fitted = make_world().fit_image(Image.new("L", (300, 40)))
    assert fitted.shape == (12, 10, 3)
    assert fitted.dtype == np.uint8


def test_build_on_the_meta_device_allocates_nothing(make_config):
    with torch.device("meta"):
        world = build(make_config())
    assert all(p.is_meta for p in world.parameters())
