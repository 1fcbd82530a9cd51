from pathlib import Path

import pytest
from training_world import tiny_config

from djinn.config import StageConfig, TrainConfig, WorldConfig
from djinn.config.yaml import to_dict
from djinn.errors import UserError
from djinn.train.compatibility import check_same, differences, with_defaults


def test_only_settings_that_change_a_step_must_agree(tmp_path: Path) -> None:
    old = to_dict(tiny_config())
    new = to_dict(tiny_config(steps=500, minutes=3.0, min_steps=9, log_every=7, eval_every=8, save_every=9))
    new["loggers"], new["compile"] = ["wandb"], "off"
    check_same(old, new, tmp_path)
    assert differences(old, to_dict(tiny_config(lr=1.0))) == ["tokenizer.lr: 0.003 -> 1.0", "dynamics.lr: 0.003 -> 1.0"]
    with pytest.raises(UserError, match=r"world\.context_frames: 4 -> 16.*--out"):
        check_same(old, to_dict(TrainConfig()), tmp_path)


def test_missing_fields_count_as_their_defaults(tmp_path: Path) -> None:
    new = to_dict(tiny_config())
    old = to_dict(tiny_config())
    for sizes in ("tokenizer", "latent_action"):
        del old["world"][sizes]["quantizer"]["standardize"]
    del old["world"]["latent_action"]["input"], old["tokenizer"]["ema_decay"]
    kinds: dict[str, type] = {"world": WorldConfig, "tokenizer": StageConfig}
    check_same(with_defaults(old, kinds), new, tmp_path)
    new["world"]["latent_action"]["input"] = "tokens"
    with pytest.raises(UserError, match=r"world\.latent_action\.input: pixels -> tokens"):
        check_same(with_defaults(old, kinds), new, tmp_path)
    old["world"]["unknown"] = 1
    with pytest.raises(UserError, match=r"world\.unknown: 1 -> None"):
        check_same(with_defaults(old, kinds), new, tmp_path)
