from fractions import Fraction

import av
import numpy as np
import pytest
from films import numbered, numbers
from PIL import Image, ImageSequence

from djinn.data.video import BrokenVideoError, read_video, write_video
from djinn.errors import UserError


def read(path, fps=10.0, size=(48, 64), fit="crop"):
    return np.stack(list(read_video(path, fps, size, fit)))


def test_same_rate_gives_every_frame(make_video):
    frames = read(make_video("a.mp4", numbered(20)))
    assert frames.shape == (20, 48, 64, 3) and frames.dtype == np.uint8
    assert numbers(frames) == list(range(20))


@pytest.mark.parametrize(
    "source, target, expected",
    [(30, 10, [0, 3, 6, 9, 12, 15, 18]), (5, 10, [0, 0, 1, 1, 2]), (29.97, 10, [0, 2, 5, 8, 11, 14, 17])],
)
def test_other_rates_keep_their_speed(make_video, source, target, expected):
    got = numbers(read(make_video("a.mp4", numbered(20), fps=source), target))[: len(expected)]
    assert np.abs(np.array(got) - expected).max() <= (1 if source == 29.97 else 0)


def test_variable_rate_goes_by_timestamps(make_video):
    times = [0, 0.1, 0.13, 0.17, 0.2, 0.6, 0.61, 0.7]
    frames = read(make_video("vfr.mkv", numbered(8), times=times))
    assert numbers(frames) == [0, 1, 4, 4, 4, 4, 5, 7]


def test_a_jump_of_the_clock_is_closed(make_video):
    times = [0, 0.1, 0.2, 3600.0, 3600.1]
    assert numbers(read(make_video("jump.mkv", numbered(5), times=times))) == [0, 1, 2, 3, 4]


def test_a_late_start_is_no_gap(make_video):
    assert numbers(read(make_video("late.mkv", numbered(3), times=[5.0, 5.1, 5.2]))) == [0, 1, 2]


def halves():
    """Left third red, middle green, right third blue, 60 wide and 20 high."""
    frames = np.zeros((3, 20, 60, 3), dtype=np.uint8)
    for third in range(3):
        frames[:, :, 20 * third : 20 * third + 20, third] = 255
    return frames


def test_crop_keeps_proportions_and_stretch_keeps_the_whole(make_video):
    path = make_video("thirds.mp4", halves())
    assert (read(path, size=(10, 10), fit="crop")[0, 2:8, 2:8].mean((0, 1)).argmax()) == 1
    cropped = read(path, size=(10, 10), fit="crop")[0].astype(int)
    assert cropped[..., 1].mean() > 200 and cropped[..., 0].mean() < 40
    stretched = read(path, size=(10, 30), fit="stretch")[0].astype(int)
    assert [stretched[:, 2 + 10 * i : 8 + 10 * i].mean((0, 1)).argmax() for i in range(3)] == [0, 1, 2]


def test_reduction_averages_areas(make_video):
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    frames = np.repeat(checks[None, :, :, None], 3, axis=0).repeat(3, axis=3)
    reduced = read(make_video("checks.mp4", frames), size=(16, 16)).astype(int)
    assert abs(reduced.mean() - 127.5) < 6 and reduced.std() < 6


def test_pictures_stand_upright(tmp_path):
    path = tmp_path / "phone.mp4"
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[:, :32] = 255
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv444p"
        stream.set_display_rotation(90)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    upright = read(path, size=(64, 32))[0].astype(int)
    assert upright[4:28].mean() < 20 and upright[36:60].mean() > 235  # a quarter to the left: what was left is below


def test_wide_pixels_count(make_video, tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = 20, 30, "yuv444p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for frame in halves()[:, :, ::2]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    assert read(path, size=(10, 10))[0, :, :, 1].mean() > 200


def test_gif(tmp_path):
    write_video(tmp_path / "a.gif", numbered(12), 10)
    assert numbers(read(tmp_path / "a.gif")) == list(range(12))


@pytest.mark.parametrize("fps", [7, 12, 15, 24, 30, 50])
def test_a_gif_lasts_as_long_as_its_frames(tmp_path, fps):
    write_video(tmp_path / "a.gif", numbered(20), fps)
    with Image.open(tmp_path / "a.gif") as gif:
        lasts = [image.info["duration"] for image in ImageSequence.Iterator(gif)]
    assert len(lasts) == 20 and min(lasts) >= 20
    assert abs(sum(lasts) - 20_000 / fps) <= 5


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_truncated_file_is_named_after_its_good_frames(make_noise_video, kind):
    path = make_noise_video(f"cut.{kind}", options={"movflags": "+faststart"} if kind == "mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    good = []
    with pytest.raises(BrokenVideoError, match=r"cut\.\w+ is damaged or cut short after \d+ frames"):
        for frame in read_video(path, 10, (32, 32)):
            good.append(frame)
    assert 10 < len(good) < 40


def test_files_that_are_no_video(tmp_path, make_noise_video):
    (tmp_path / "text.mp4").write_text("Once upon a time there was no video in this file.\n" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    lost = make_noise_video("lost.mp4")  # its table of contents was at the end
    lost.write_bytes(lost.read_bytes()[:-2000])
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        piece.sample_rate = 16000
        container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    for name, words in [
        ("text.mp4", "is not a video"),
        ("empty.mp4", "is not a video"),
        ("lost.mp4", "is not a video"),
        ("sound.mp4", "has no video, only sound"),
    ]:
        with pytest.raises(BrokenVideoError, match=rf"{name} {words}"):
            list(read_video(tmp_path / name, 10, (32, 32)))
    with pytest.raises(UserError, match="no video file at"):
        list(read_video(tmp_path / "missing.mp4", 10, (32, 32)))


@pytest.mark.parametrize("height, width", [(64, 64), (45, 83), (90, 160), (301, 403)])
def test_mp4_for_browsers(tmp_path, height, width):
    frames = np.random.default_rng(0).integers(0, 256, (5, height // 5, width // 5 + 1, 3), dtype=np.uint8)
    frames = np.ascontiguousarray(frames.repeat(5, 1).repeat(5, 2)[:, :height, :width])
    write_video(tmp_path / "a.mp4", frames, 10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert min(stream.width, stream.height) >= 256 and stream.average_rate == 10
        assert len(list(container.decode(stream))) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_exact_mp4_keeps_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    write_video(tmp_path / "a.mp4", colours, 10, exact=True)
    error = (read(tmp_path / "a.mp4", size=(64, 64)).astype(float) - colours) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 38


def test_png_is_a_strip(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    write_video(tmp_path / "a.png", frames, 10)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == np.concatenate(list(frames), axis=1)).all()


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"\.mp4, \.gif or \.png"):
        write_video(tmp_path / "a.xyz", numbered(3), 10)
    with pytest.raises(UserError, match="T >= 1"):
        write_video(tmp_path / "a.mp4", numbered(3)[:0], 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_video(tmp_path / "file" / "a.mp4", numbered(3), 10)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("old")

    def full(path, frames):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("djinn.data.video._write_png", full)
    with pytest.raises(UserError, match="No space left"):
        write_video(tmp_path / "a.png", numbered(3), 10)
    assert (tmp_path / "a.png").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
