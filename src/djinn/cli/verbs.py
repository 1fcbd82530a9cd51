"""What each verb takes, in a person's words, and whom it calls.

The functions here are read by tyro: their parameters become options, and their docstrings the help.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from djinn.cli.parsing import Device, Engine, Flag, Split, World, YesNo
from djinn.config.presets import PRESETS
from djinn.errors import UserError


def data_import(
    sources: Annotated[tuple[str, ...], Positional, arg(metavar="SOURCE...", help_behavior_hint="")],
    /,
    out: Annotated[Path, arg(metavar="DATASET")],
    size: Annotated[str, arg(metavar="WxH")] = "64x64",
    fps: float = 10.0,
    fit: Annotated[Literal["crop", "stretch"] | None, arg(metavar="crop|stretch", help_behavior_hint="")] = None,
    levels: Annotated[str | None, arg(metavar="FIRST:END", help_behavior_hint="")] = None,
    frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    mode: Annotated[Literal["hard", "easy"] | None, arg(metavar="hard|easy", help_behavior_hint="")] = None,
    policy: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None,
    backgrounds: YesNo = None,
    restrict_themes: YesNo = None,
    seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    workers: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
) -> None:
    """Turn videos, or a game, into a data set to train on.

    For instance:

    djinn data import my-videos/ --out data/mine --size 64x64 --fps 10

    djinn data import procgen:coinrun --out data/coinrun --levels 0:10000 --frames 1000000 --mode easy

    Args:
        sources: video files, folders of them, or procgen:coinrun to record the game CoinRun.
        out: folder to make. It must not exist yet.
        size: width and height of the frames. Videos are reduced to it; the game has 64x64.
        fps: frames a second. Videos are brought to it by their timestamps.
        fit: for videos of another shape: crop cuts the borders off (the default), stretch distorts the picture.
        levels: for the game: levels to play (0:10000 by default). From 10000 on they are for testing.
        frames: for the game: how many frames to record (1,000,000 by default).
        mode: for the game: hard (the default) has all themes and monsters, easy one theme and nothing that walks.
        policy: for the game: who plays: random (the default), random9, sticky, right, mix, held-moves,
            keyboard-jump, keyboard-turn or keyboard-mix.
        backgrounds: for the game: draw pictures behind the level (the default is yes).
        restrict_themes: for the game: use one set of pictures instead of all (the default is no).
        seed: for the game: another seed plays in another way (the default is 0).
        workers: for the game: processes that play at a time (the default is 1). The data do not depend on it.
    """
    if not sources:
        raise UserError("djinn data import needs a SOURCE: a video file, a folder of videos, or procgen:coinrun")
    from djinn.data.commands import import_data

    switch = {None: None, "yes": True, "no": False}
    import_data(
        sources,
        out,
        size=size,
        fps=fps,
        fit=fit,
        levels=levels,
        frames=frames,
        mode=mode,
        policy=policy,
        backgrounds=switch[backgrounds],
        restrict_themes=switch[restrict_themes],
        seed=seed,
        workers=workers,
    )


def data_info(
    dataset: Annotated[Path, Positional, arg(metavar="DATASET")],
    /,
    picture: Annotated[Path | None, arg(metavar="FILE.png", help_behavior_hint="")] = None,
) -> None:
    """Say what is in a data set: frames, episodes, splits, where it came from.

    Args:
        dataset: the data set's folder.
        picture: also write frames of some episodes to this file.
    """
    from djinn.data.commands import info

    info(dataset, picture=picture)


def sample(
    world: World,
    /,
    image: Annotated[Path, arg(metavar="IMG")],
    actions: Annotated[str, arg(metavar="0,0,3,3")],
    out: Annotated[Path, arg(metavar="FILE")],
    seed: Annotated[int, arg(metavar="N")] = 0,
    steps: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None,
    temperature: Annotated[float | None, arg(metavar="T", help_behavior_hint="")] = None,
    fps: Annotated[float | None, arg(metavar="F", help_behavior_hint="")] = None,
    device: Device = None,
) -> None:
    """Make a video from a picture and a list of actions.

    For instance: djinn sample runs/mine --image start.png --actions 0,0,3,3 --out film.mp4

    Args:
        world: world folder, run folder, or name of a shipped world.
        image: picture to start from, PNG, JPEG or WebP of any size. It is cropped and resized to the world's frame.
        actions: latent actions, one for each frame to make, with commas between. 3x10 stands for ten times action 3.
        out: file to write: .mp4, .gif, or .png for all frames side by side.
        seed: another seed gives another future.
        steps: MaskGIT steps for each frame: more is slower and often better. The world's own by default.
        temperature: 0 always takes the likeliest token, higher is more varied. The world's own by default.
        fps: frames a second of the video. The world's own by default.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.sample import sample as sample_video

    sample_video(world, image, actions, out, seed=seed, steps=steps, temperature=temperature, fps=fps, device=device)


def play(
    world: World,
    /,
    host: str = "127.0.0.1",
    port: int = 8000,
    browser: Flag = True,
    fps: Annotated[float | None, arg(metavar="F", help_behavior_hint="")] = None,
    max_players: int = 8,
    prompt: Annotated[tuple[Path, ...], arg(metavar="IMG", help_behavior_hint="")] = (),
    allowed_host: Annotated[tuple[str, ...], arg(metavar="NAME", help_behavior_hint="")] = (),
    engine: Engine = "auto",
    device: Device = None,
) -> None:
    """Play a world in the browser, until Ctrl-C.

    Args:
        world: world folder, run folder, or name of a shipped world.
        host: address to listen on. 127.0.0.1 is this machine only, 0.0.0.0 everyone who can reach it.
        port: port to listen on. 0 takes any that is free.
        browser: do not open the page, only serve it.
        fps: the pace to start with, in frames a second. 0 is as fast as it goes; the world's own by default.
        max_players: how many may play at once.
        prompt: pictures to start from, besides those that the world brings.
        allowed_host: further names by which the page may be asked for, for instance behind a proxy. With a --host that
            others reach, its address in numbers and this machine's own name will do.
        engine: what computes the frames: onnx is ONNX Runtime, on a CPU only, and int8 is the same with eight-bit products
            in the dynamics. There auto is int8 for a dynamics of width 256 or more and else onnx, if that is installed.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.images import read_image
    from djinn.sample import check_device

    check_device(device)
    prompts = [read_image(path) for path in prompt]
    from djinn.play.server import serve

    serve(
        world,
        host,
        port,
        browser,
        prompts=prompts,
        fps=fps,
        max_players=max_players,
        allowed_hosts=allowed_host,
        engine=engine,
        device=device,
    )


def evaluate(
    world: World,
    dataset: Annotated[Path, Positional, arg(metavar="DATASET")],
    /,
    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    report: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
    split: Split = None,
    clips: Annotated[int, arg(metavar="N")] = 64,
    horizon: Annotated[int, arg(metavar="N")] = 7,
    prompt_frames: Annotated[int, arg(metavar="N")] = 1,
    steps: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None,
    temperature: Annotated[float | None, arg(metavar="T", help_behavior_hint="")] = None,
    seed: Annotated[int, arg(metavar="N")] = 0,
    batch: Annotated[int, arg(metavar="N")] = 16,
    drift_frames: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    long: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    shown: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
    fvd_detector: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    random_frechet: Flag = False,
    device: Device = None,
) -> None:
    """Measure a world on clips that it has not seen: how good its frames are, and whether its actions act.

    For instance:

    djinn eval runs/mine data/mine --report report

    djinn eval runs/mine data/mine --clips 2048 --horizon 15 --fvd-detector i3d_torchscript.pt

    FVD needs the I3D network that the field uses, i3d_torchscript.pt of StyleGAN-V, which Djinn does not download, or a
    function from float video (clip, channel, time, height, width) of 0 to 255 to features.

    Args:
        world: world folder, run folder, or name of a shipped world.
        dataset: data set whose frames have the world's size.
        json: write all figures to this file.
        report: write report.html, results.json with all figures and rollouts.png into this folder.
        split: part of the data set to measure on. test by default, or val where a data set of few videos has no test.
        clips: how many clips to play.
        horizon: how many frames to generate from each prompt.
        prompt_frames: how many real frames to start from.
        steps: MaskGIT steps for each frame. The world's own by default.
        temperature: 0 always takes the likeliest token, higher is more varied. The world's own by default.
        seed: of everything random.
        batch: how many clips to play at once.
        drift_frames: also play 4 long games of so many frames and say what becomes of them. With --report 200 by default.
        long: also play N frames (for instance 100) from as many prompts as episodes allow, with the actions inferred from
            the true video, and give PSNR and SSIM at frames 1, 10, 25, 50 and so on, and at the last one.
        shown: how many clips the report shows, 20 by default: the first ones drawn, from different levels or videos,
            spread_over_sources. With --report only.
        fvd_detector: also give FVD, by this TorchScript file or MODULE:FUNCTION. The file is code: trust what you name.
        random_frechet: also give the same distance by a network with random weights, which needs no file. It is not FVD.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.report.commands import run
    from djinn.sample import check_device

    run(
        world,
        dataset,
        json=json,
        report=report,
        split=split,
        clips=clips,
        horizon=horizon,
        prompt_frames=prompt_frames,
        steps=steps,
        temperature=temperature,
        seed=seed,
        batch=batch,
        drift_frames=drift_frames,
        long=long,
        shown=shown,
        fvd_detector=fvd_detector,
        random_frechet=random_frechet,
        device=check_device(device),
    )


def name(
    world: World,
    dataset: Annotated[Path, Positional, arg(metavar="DATASET")],
    /,
    force: Flag = False,
    prompts: Annotated[int, arg(metavar="N")] = 32,
    seed: Annotated[int, arg(metavar="N")] = 0,
    device: Device = None,
) -> None:
    """Name a world's actions by what they do, and give them keys.

    Each action is held for some frames from many pictures that the world has not seen, and what moves is measured. Where
    the data set has true actions with names, these count for more. Names and keys go into the world's actions.yaml.

    Args:
        world: world folder, run folder, or name of a shipped world.
        dataset: data set whose frames have the world's size.
        force: also replace names that a person has chosen.
        prompts: pictures to try each action from.
        seed: of the choice of pictures and the draws.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.actions.name_world import run
    from djinn.sample import check_device

    run(world, dataset, force=force, prompts=prompts, seed=seed, device=check_device(device))


def diagnose(
    world: World,
    dataset: Annotated[Path, Positional, arg(metavar="DATASET")],
    /,
    json: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    split: Split = None,
    clips: Annotated[int, arg(metavar="N")] = 64,
    seed: Annotated[int, arg(metavar="N")] = 0,
    batch: Annotated[int, arg(metavar="N")] = 16,
    device: Device = None,
) -> None:
    """Say in one verdict whether a world is playable, or what is wrong with it and what to change.

    Args:
        world: world folder, run folder, or name of a shipped world.
        dataset: data set whose frames have the world's size.
        json: write the verdict and all evidence to this file.
        split: part of the data set to measure on: val or test, clips that the world has not seen. test by default, or val
            where a data set of few videos has no test.
        clips: how many clips to measure on, 16 or more.
        seed: of everything random.
        batch: how many clips to play at once.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.report.commands import run_diagnose
    from djinn.sample import check_device

    run_diagnose(
        world, dataset, json=json, split=split, clips=clips, seed=seed, batch=batch, device=check_device(device)
    )


def bench(
    world: World,
    /,
    json: Flag = False,
    long: Flag = False,
    train: Flag = True,
    frames: Annotated[int, arg(metavar="N")] = 60,
    steps: Annotated[int | None, arg(metavar="K", help_behavior_hint="")] = None,
    compile: Literal["auto", "on", "off"] = "auto",
    engine: Engine = "auto",
    device: Device = None,
) -> None:
    """Measure how fast a world is on this machine: play, training and memory.

    Args:
        world: world folder, run folder, name of a shipped world, or preset:NAME for random weights of a preset's size.
        json: print one JSON object on stdout and nothing else.
        long: also play 2,000 frames, and watch the time for a frame and the memory.
        train: do not measure training.
        frames: frames to play, after the warm-up.
        steps: MaskGIT steps for each frame. The world's own by default.
        compile: torch.compile in training: auto is on CUDA only.
        engine: what plays, as of djinn play.
        device: where to compute, for instance cpu or cuda. CUDA where there is one, by default.
    """
    from djinn.benchmark import bench as run_bench

    run_bench(
        world,
        json=json,
        long=long,
        train=train,
        frames=frames,
        steps=steps,
        compile=compile,
        engine=engine,
        device=device,
    )


def plan(preset: Annotated[str, arg(metavar="NAME", help=f"Which one: {', '.join(PRESETS)}.")]) -> None:
    """Say what a preset would cost, before training it: parameters, tokens and memory.

    Nothing is built for it, so that it works for sizes far beyond this machine.

    Args:
        preset: which one.
    """
    from djinn.plan import print_plan

    print_plan(preset)
