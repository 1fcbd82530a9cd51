"""Stages of `djinn train` and their announcements."""

from djinn.config.presets import PRESETS
from djinn.pipeline import stage_announcer, stages_of


def test_stages_of_a_run():
    tiny, finetune = PRESETS["tiny"], PRESETS["finetune"]
    assert stages_of(tiny, "all") == ["tokenizer", "dynamics", "names", "prompts"]
    assert stages_of(tiny, "tokenizer") == ["tokenizer"]
    assert stages_of(tiny, "dynamics") == ["dynamics", "names", "prompts"]
    assert stages_of(finetune, "all") == ["dynamics", "prompts"]


def test_stages_are_announced_with_their_number(capsys, monkeypatch):
    announce = stage_announcer(["tokenizer", "dynamics"])
    announce("dynamics")
    assert capsys.readouterr().err == "2/2 training the latent action model and the dynamics\n"
    monkeypatch.setenv("RANK", "1")
    announce("dynamics")
    assert capsys.readouterr().err == ""
