import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from djinn import cli
from djinn.cli import VERBS, main
from djinn.cli import registry as commands
from djinn.cli.train import read_train, resolve_train
from djinn.config import UNLIMITED
from djinn.config.presets import PRESETS
from djinn.errors import UserError


def djinn(*args: object, code: int | None = None, **more) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    command = [sys.executable, "-m", "djinn", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, **more)
    assert code is None or done.returncode == code, done.stderr
    return done


def refusal(*args: object) -> str:
    """What a command says that must end in one sentence."""
    done = djinn(*args, code=2)
    assert done.stdout == ""
    *bars, line = done.stderr.strip().splitlines()
    assert line.startswith("djinn: ")
    assert all("%|" in bar or "/s]" in bar for bar in bars if bar.strip())
    return line


@pytest.fixture(scope="module")
def world(make_world, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "small"
    make_world().save_pretrained(folder)
    return folder


@pytest.fixture
def image(tmp_path) -> Path:
    path = tmp_path / "start.png"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(30, 40, 3), dtype=np.uint8)).save(path)
    return path


# ------------------------------------------------------------------------------------------------------------ --help


def test_help_lists_every_verb_without_importing_torch():
    code = "import sys; from djinn.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    for verb, text in VERBS.items():
        assert f"  {verb} " in done.stdout
        assert text in done.stdout


def test_training_playing_and_measuring_need_no_video_library():
    """As on a machine where nothing can be installed."""
    code = "import sys; sys.modules['av'] = None; import djinn.train.run, djinn.generate, djinn.report.commands, djinn.benchmark"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_verb_has_a_command():
    assert set(commands.COMMANDS) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as left:
        main([*verb.split(), "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: djinn {verb}")
    assert "None" not in text


def test_the_options_of_the_issue_exist(capsys):
    wanted = {
        "data import": "--out --size --fps --levels --frames --mode --policy",
        "train": "--preset --out --stage --minutes --steps",
        "sample": "--image --actions --out --seed",
        "play": "--host --port --no-browser",
        "bench": "--json",
    }
    for verb, options in wanted.items():
        with pytest.raises(SystemExit):
            main([*verb.split(), "--help"])
        text = capsys.readouterr().out
        assert [o for o in options.split() if o not in text] == []


def test_all_keys_of_a_preset_are_listed_when_asked_for(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--preset", "genie-10.1b", "--help-config"])
    text = capsys.readouterr().out
    assert "--world.dynamics.transformer.blocks" in text
    assert "(default: 5120)" in text


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out.startswith("djinn 0.")


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("pla x", "did you mean 'play'"),
        ("data imprt x", "did you mean 'data import'"),
        ("train x --out y --preset tinny", "unknown preset 'tinny'; did you mean 'tiny'"),
        ("plan --preset huge", "unknown preset 'huge'; the presets are"),
        (
            "train x --out y --preset tiny --world.dynamcis.transformer.blocks 4",
            "unknown option '--world.dynamcis.transformer.blocks'; did you mean --world.dynamics.transformer.blocks?",
        ),
        ("train x --out y --preset tiny --tokenizer.lr fast", "--tokenizer.lr: 'fast' is not a number"),
        ("train x --out y --preset tiny --minutes soon", "--minutes: 'soon' is not a number"),
        ("train x --out y --preset tiny --world.dynamics.transformer.blocks 0", "blocks must be at least 1, got 0"),
        ("train x --out y --preset tiny --stage both", "'both'"),
        ("train x --preset tiny", "djinn train needs --out RUN"),
        ("sample", "djinn sample needs WORLD, --image IMG"),
        ("bench x --jsno", "did you mean --json?"),
        ("data import --out y", "needs a SOURCE"),
        ("eval coinrun x --device meta", "no device 'meta' on this machine"),
        ("sample x --image y --actions 0 --out z.mp4 --fps nan", "fps must lie between 0.01 and 1000"),
        ("data import procgen:coinrun --out y --seed -1", "seed must lie between 0 and 2**63 - 1, got -1"),
        ("data import procgen:coinrun --out y --fps inf", "fps must lie between 0.01 and 1000"),
        ("play x --port many", "--port: 'many' is not a whole number"),
        ("data import procgen:coinrun --out y --mode ez", "argument '--mode'; it must be one of '"),
    ],
)
def test_mistyped_commands_end_in_a_sentence(args, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(args.split())
    said = capsys.readouterr()
    assert left.value.code == 2
    assert said.out == ""
    assert words in said.err and "None" not in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_missing_paths(tmp_path):
    nowhere = tmp_path / "nowhere"
    assert f"no data set at {nowhere}" in refusal("train", nowhere, "--preset", "tiny", "--out", tmp_path / "run")
    assert f"no world at {nowhere}" in refusal("play", nowhere, "--no-browser", "--port", 0)
    assert str(nowhere) in refusal("data", "import", nowhere, "--out", tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_no_videos(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert str(empty) in refusal("data", "import", empty, "--out", tmp_path / "data")
    assert f"{empty} is no world" in refusal("bench", empty)
    assert not (tmp_path / "data").exists()


def test_text_named_mp4(tmp_path):
    (tmp_path / "notes.mp4").write_text("this is no film\n" * 100)
    assert "notes.mp4" in refusal("data", "import", tmp_path / "notes.mp4", "--out", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_truncated_mp4(tmp_path):
    from djinn.data.video import write_video

    frames = np.random.default_rng(0).integers(256, size=(40, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "whole.mp4", frames, 10, exact=True)
    whole = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    done = djinn("data", "import", tmp_path / "cut.mp4", "--out", tmp_path / "data", "--size", "16x16")
    assert "cut.mp4" in done.stderr
    assert "Traceback" not in done.stderr
    if done.returncode == 0:  # what could be read was kept, and the user was told
        assert "damaged or cut short" in done.stderr
    else:
        assert done.returncode == 2
        assert not (tmp_path / "data").exists()


def test_corrupt_and_foreign_worlds(world, tmp_path):
    import shutil

    from safetensors.numpy import save_file

    corrupt = tmp_path / "corrupt"
    shutil.copytree(world, corrupt)
    weights = corrupt / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "model.safetensors is not a readable safetensors file" in refusal("bench", corrupt)
    save_file({"layer.weight": np.zeros(3, np.float32)}, weights)
    assert "model.safetensors lacks the tensor" in refusal("bench", corrupt)


def test_foreign_checkpoint(tmp_path):
    from djinn.data.writer import DatasetWriter

    with DatasetWriter(tmp_path / "data", height=16, width=16, fps=10) as writer:
        frames = np.zeros((40, 16, 16, 3), np.uint8)
        for split in ("train", "val"):
            writer.add_episode(frames, source=split, split=split)
    checkpoint = tmp_path / "run" / "tokenizer" / "checkpoint.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"not a checkpoint")
    args = ("train", tmp_path / "data", "--preset", "tiny", "--out", tmp_path / "run", "--steps", 2)
    done = djinn(*args, code=2)
    assert "checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    assert checkpoint.read_bytes() == b"not a checkpoint"


def test_actions_out_of_range(world, image, tmp_path):
    out = tmp_path / "film.mp4"
    said = refusal("sample", world, "--image", image, "--actions", "0,5", "--out", out)
    assert "action 5 is out of range: this world has 5 latent actions, 0 to 4" in said
    assert not out.exists()


def test_port_in_use(world):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in refusal("play", world, "--no-browser", "--port", port)


def test_an_existing_data_set_is_kept(tmp_path):
    kept = tmp_path / "data"
    kept.mkdir()
    (kept / "mine.txt").write_text("precious")
    (tmp_path / "a.mp4").write_text("")
    refusal("data", "import", tmp_path / "a.mp4", "--out", kept)
    assert (kept / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), 2, "no space left on the disk while writing x.bin"),
        (PermissionError(errno.EACCES, "Permission denied", "x.bin"), 2, "no permission to use x.bin"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "d/" + "a" * 300), 2, f"so long a name: {'a' * 40}...;"),
        (MemoryError("Unable to allocate 40 GiB"), 2, "the memory is not enough for this: use smaller frames"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), 2, "the memory of the GPU is not enough for this"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "the memory is not enough for this"),
        (KeyboardInterrupt(), 130, ""),
        (UserError("do this instead"), 2, "djinn: do this instead"),
    ],
)
def test_how_it_ends(error, code, words, monkeypatch, capsys):
    def fail(args):
        raise error

    monkeypatch.setitem(commands.COMMANDS, "plan", fail)
    with pytest.raises(SystemExit) as left:
        main(["plan"])
    said = capsys.readouterr().err
    assert left.value.code == code
    assert words in said
    assert "Traceback" not in said


def test_faults_of_ours_keep_their_traceback(monkeypatch):
    def fail(args):
        raise RuntimeError("bug")

    monkeypatch.setitem(commands.COMMANDS, "plan", fail)
    with pytest.raises(RuntimeError, match="bug"):
        main(["plan"])


def test_more_memory_than_there_is(capsys):
    """A tensor that no machine holds, asked of torch and of numpy themselves."""
    for ask in (lambda: torch.empty(1 << 62, dtype=torch.uint8), lambda: np.empty(1 << 62, np.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as failed:
            ask()
        assert cli._explain_memory(failed.value) is not None


def test_a_reader_that_leaves_is_no_error():
    command = f'{sys.executable} -c \'from djinn.cli import main; main(["train", "--help"])\' | head -c 1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == "u"
    assert done.stderr == ""


# -------------------------------------------------------------------------------------------------------------- jobs


@pytest.mark.parametrize(("kind", "frames"), [("mp4", 6), ("gif", 6), ("png", 1)])
def test_sample_writes_a_film(world, image, tmp_path, kind, frames, capsys):
    import av

    out = tmp_path / f"film.{kind}"
    main_ = ["sample", world, "--image", image, "--actions", "0,3x2,1,4", "--out", out, "--seed", 7, "--steps", 2]
    cli.run([str(a) for a in main_])
    assert f"wrote 6 frames to {out}" in capsys.readouterr().out
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == frames


def test_sample_spares_the_picture_it_starts_from(world, image, capsys):
    before = image.read_bytes()
    with pytest.raises(SystemExit):
        main(["sample", str(world), "--image", str(image), "--actions", "0", "--out", str(image)])
    assert "is the picture to start from" in capsys.readouterr().err and image.read_bytes() == before


def test_a_folder_where_a_file_is_to_be_is_refused_at_once(world, image, tmp_path, capsys):
    folder = tmp_path / "figures.png"
    folder.mkdir()
    for command in (
        ["sample", str(world), "--image", str(image), "--actions", "0", "--out", str(folder)],
        ["eval", str(world), str(tmp_path / "no-data"), "--json", str(folder)],
        ["diagnose", str(world), str(tmp_path / "no-data"), "--json", str(folder)],
    ):
        with pytest.raises(SystemExit):
            main(command)
        assert f"{folder} is a folder" in capsys.readouterr().err


def test_sample_is_reproducible(world, image, tmp_path):
    def film(name, seed):
        out = tmp_path / name
        cli.run(["sample", str(world), "--image", str(image), "--actions", "1x8", "--out", str(out), "--seed", seed])
        return out.read_bytes()

    assert film("a.png", "1") == film("b.png", "1")
    assert film("a.png", "1") != film("c.png", "2")


@pytest.mark.parametrize("text", ["", "a", "1,,2", "-1", "1;2", "0x", "1x99999999"])
def test_actions_that_are_no_list(text):
    from djinn.sample import parse_actions

    with pytest.raises(UserError):
        parse_actions(text)


def test_sample_refuses_huge_and_broken_pictures(world, tmp_path, capsys):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    (tmp_path / "text.png").write_text("hello")
    for name, words in (("huge.png", "100 megapixels"), ("text.png", "not a readable image"), ("none.png", "no image at")):
        with pytest.raises(UserError, match=words):
            cli.run(
                [
                    "sample",
                    str(world),
                    "--image",
                    str(tmp_path / name),
                    "--actions",
                    "0",
                    "--out",
                    str(tmp_path / "x.gif"),
                ]
            )


def test_bench_prints_one_json_object(world, monkeypatch, capsys):
    monkeypatch.setattr("djinn.benchmark.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("djinn.benchmark.LEAST_STEPS", 1)
    monkeypatch.setattr("djinn.benchmark.LONG", 60)
    monkeypatch.setattr("djinn.benchmark.NEAR", 5)
    cli.run(["bench", str(world), "--json", "--frames", "4", "--long", "--device", "cpu"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["play_fps"]) == {"p50", "p95"}
    assert figures["play_fps"]["p50"] >= figures["play_fps"]["p95"] > 0
    assert set(figures["ms"]) == {"encode", "dynamics", "decode"}
    assert figures["train_fps"] == figures["train"]["dynamics"]["fps"] > 0
    assert figures["peak_memory_mb"] > 0
    assert figures["machine"]["torch"]
    assert figures["train"]["world"]["gflops_per_frame"] > figures["train"]["dynamics"]["gflops_per_frame"] > 0
    assert figures["long"]["late_over_early"] > 0


def test_play_serves_and_stops_on_ctrl_c(world):
    command = [sys.executable, "-m", "djinn", "play", str(world), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert "http://127.0.0.1:" in server.stdout.readline()
            time.sleep(0.5)
            server.send_signal(signal.SIGINT)
            _, said = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode in (0, 130)
    assert "Traceback" not in said


# ----------------------------------------------------------------------------------------------------- train options


def resolved(*args: str, size=(64, 64), fps=10.0):
    return resolve_train(*read_train(["data", "--out", "run", *args]), size, fps)


def test_preset_and_options_make_the_config():
    config = resolved("--preset", "coinrun", "--world.dynamics.transformer.blocks", "4", "--tokenizer.lr=1e-3")
    assert config.world.dynamics.transformer.blocks == 4
    assert config.tokenizer.lr == 1e-3
    assert config.world.tokenizer == PRESETS["coinrun"].world.tokenizer


def test_a_preset_alone_is_unchanged():
    assert resolved("--preset", "tiny") == PRESETS["tiny"]


def test_frames_are_those_of_the_data_set():
    config = resolved("--preset", "tiny", size=(90, 160), fps=15.0)
    assert (config.world.height, config.world.width, config.world.fps) == (90, 160, 15.0)
    with pytest.raises(UserError, match="the data set has frames of 160x90"):
        resolved("--preset", "tiny", "--world.height", "64", size=(90, 160))


def test_minutes_are_shared_and_replace_steps():
    config = resolved("--preset", "tiny", "--minutes", "20", "--tokenizer-share", "0.25")
    assert (config.tokenizer.minutes, config.dynamics.minutes) == (5.0, 15.0)
    assert config.tokenizer.steps == config.dynamics.steps == UNLIMITED
    config = resolved("--preset", "tiny", "--minutes", "20", "--steps", "100", "--dynamics.steps", "300")
    assert (config.tokenizer.steps, config.dynamics.steps) == (100, 300)


def test_limits_are_for_the_stage_that_is_trained():
    config = resolved("--preset", "tiny", "--minutes", "8", "--stage", "world")
    assert config.tokenizer == PRESETS["tiny"].tokenizer
    assert config.dynamics.minutes == 8.0


def test_of_two_presets_the_last_counts():
    options, config, _ = read_train(["data", "--out", "run", "--preset", "tiny", "--preset=coinrun"])
    assert options.preset == "coinrun" and config == PRESETS["coinrun"]
