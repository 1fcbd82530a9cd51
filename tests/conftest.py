import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

from djinn.config import (
    DynamicsConfig,
    LatentActionConfig,
    QuantizerConfig,
    SamplerConfig,
    TokenizerConfig,
    TransformerConfig,
    WorldConfig,
)

pytest_plugins = ["scripted_world"]
NOBODY = 65534


@pytest.fixture(autouse=True)
def unchecked(request, monkeypatch):
    """Disable the checks of `typecheck` in tests marked `unchecked`."""
    if request.node.get_closest_marker("unchecked"):
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(autouse=True)
def user_data_dir(tmp_path, monkeypatch):
    """Use an empty data folder, so that results do not depend on names saved on this machine."""
    monkeypatch.setenv("DJINN_DATA_DIR", str(tmp_path / ".djinn-data"))


@pytest.fixture(scope="session")
def make_config() -> Callable[..., WorldConfig]:
    """Return a factory of very small configs: 4 frames of 12x10 pixels, 3x3 tokens with padding.

    Further keyword arguments are those of the latent action model.
    """

    def make(
        *, action="add", time_every=1, frames=4, masking="clean_past", token_noise=0.1, kind="ema", **latent_action
    ) -> WorldConfig:
        size = TransformerConfig(blocks=2, d_model=16, heads=3, head_dim=8, time_every=time_every)
        codebook = QuantizerConfig("fsq", 16, 2, levels=(4, 4)) if kind == "fsq" else QuantizerConfig(kind, 16, 4)
        return WorldConfig(
            height=12,
            width=10,
            context_frames=frames,
            tokenizer=TokenizerConfig(4, size, size, codebook),
            latent_action=LatentActionConfig(4, size, size, QuantizerConfig("ema", 5, 4), **latent_action),
            dynamics=DynamicsConfig(size, action, masking, token_noise),
            sampler=SamplerConfig(steps=3),
        )

    return make


@pytest.fixture(scope="session")
def make_world(make_config):
    """Return a factory of very small untrained worlds; arguments as of `make_config`."""
    from djinn.models.world import build

    def make(*, seed=0, **settings):
        torch.manual_seed(seed)
        return build(make_config(**settings)).eval()

    return make


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A temporary folder that all users can read, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path, names, _ in os.walk(folder):
        for name in names:
            Path(path, name).chmod(0o755)  # before os.walk descends into it
    shutil.rmtree(folder)


@pytest.fixture
def unprivileged() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return a context in which file permissions apply, also if the tests run as root."""

    @contextlib.contextmanager
    def drop_privileges() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return drop_privileges
