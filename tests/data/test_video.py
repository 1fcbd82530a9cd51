from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence
from synthetic_videos import numbered, numbers

from djinn.data.video import BrokenVideoError, read_video, write_video
from djinn.errors import UserError


def read(path, fps=10.0, size=(48, 64), fit="crop"):
    return np.stack(list(read_video(path, fps, size, fit)))


def test_same_rate_returns_every_frame(make_video):
    frames = read(make_video("a.mp4", numbered(20)))
    assert frames.shape == (20, 48, 64, 3) and frames.dtype == np.uint8
    assert numbers(frames) == list(range(20))


@pytest.mark.parametrize(
    "source, target, expected",
    [(30, 10, [0, 3, 6, 9, 12, 15, 18]), (5, 10, [0, 0, 1, 1, 2]), (29.97, 10, [0, 2, 5, 8, 11, 14, 17])],
)
def test_other_rates_keep_the_speed(make_video, source, target, expected):
    got = numbers(read(make_video("a.mp4", numbered(20), fps=source), target))[: len(expected)]
    assert np.abs(np.array(got) - expected).max() <= (1 if source == 29.97 else 0)


def test_variable_rate_follows_the_timestamps(make_video):
    times = [0, 0.1, 0.13, 0.17, 0.2, 0.6, 0.61, 0.7]
    frames = read(make_video("vfr.mkv", numbered(8), times=times))
    assert numbers(frames) == [0, 1, 4, 4, 4, 4, 5, 7]


def test_discontinuity_of_the_timestamps_is_closed(make_video):
    times = [0, 0.1, 0.2, 3600.0, 3600.1]
    assert numbers(read(make_video("jump.mkv", numbered(5), times=times))) == [0, 1, 2, 3, 4]


def test_late_first_timestamp_adds_no_frames(make_video):
    assert numbers(read(make_video("late.mkv", numbered(3), times=[5.0, 5.1, 5.2]))) == [0, 1, 2]


def thirds():
    """Return frames of 60x20 pixels whose thirds are red, green and blue."""
    frames = np.zeros((3, 20, 60, 3), dtype=np.uint8)
    for third in range(3):
        frames[:, :, 20 * third : 20 * third + 20, third] = 255
    return frames


def test_crop_keeps_the_aspect_ratio_and_stretch_keeps_the_whole_frame(make_video):
    path = make_video("thirds.mp4", thirds())
    assert (read(path, size=(10, 10), fit="crop")[0, 2:8, 2:8].mean((0, 1)).argmax()) == 1
    cropped = read(path, size=(10, 10), fit="crop")[0].astype(int)
    assert cropped[..., 1].mean() > 200 and cropped[..., 0].mean() < 40
    stretched = read(path, size=(10, 30), fit="stretch")[0].astype(int)
    assert [stretched[:, 2 + 10 * i : 8 + 10 * i].mean((0, 1)).argmax() for i in range(3)] == [0, 1, 2]


def test_downscaling_averages_over_areas(make_video):
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    frames = np.repeat(checks[None, :, :, None], 3, axis=0).repeat(3, axis=3)
    reduced = read(make_video("checks.mp4", frames), size=(16, 16)).astype(int)
    assert abs(reduced.mean() - 127.5) < 6 and reduced.std() < 6


def test_display_rotation_is_applied(tmp_path):
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
    rotated = read(path, size=(64, 32))[0].astype(int)
    assert rotated[4:28].mean() < 20 and rotated[36:60].mean() > 235  # rotated by 90 degrees counterclockwise


def test_pixel_aspect_ratio_is_applied(make_video, tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = 20, 30, "yuv444p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for frame in thirds()[:, :, ::2]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    assert read(path, size=(10, 10))[0, :, :, 1].mean() > 200


def test_gif_frames_are_read(tmp_path):
    write_video(tmp_path / "a.gif", numbered(12), 10)
    assert numbers(read(tmp_path / "a.gif")) == list(range(12))


@pytest.mark.parametrize("fps", [7, 12, 15, 24, 30, 50])
def test_gif_has_the_duration_of_its_frames(tmp_path, fps):
    write_video(tmp_path / "a.gif", numbered(20), fps)
    with Image.open(tmp_path / "a.gif") as gif:
        durations = [image.info["duration"] for image in ImageSequence.Iterator(gif)]
    assert len(durations) == 20 and min(durations) >= 20
    assert abs(sum(durations) - 20_000 / fps) <= 5


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_truncated_file_is_reported_after_its_intact_frames(make_noise_video, kind):
    path = make_noise_video(f"cut.{kind}", options={"movflags": "+faststart"} if kind == "mp4" else None)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    frames = []
    with pytest.raises(BrokenVideoError, match=r"cut\.\w+ is damaged or cut short after \d+ frames"):
        for frame in read_video(path, 10, (32, 32)):
            frames.append(frame)
    assert 10 < len(frames) < 40


def test_files_without_video_are_refused_with_the_reason(tmp_path, make_noise_video):
    (tmp_path / "text.mp4").write_text("Once upon a time there was no video in this file.\n" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    without_index = make_noise_video("lost.mp4")  # the index at the end of the file is missing
    without_index.write_bytes(without_index.read_bytes()[:-2000])
    audio = tmp_path / "audio.mp4"
    with av.open(str(audio), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 16000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    for name, reason in [
        ("text.mp4", "is not a video"),
        ("empty.mp4", "is not a video"),
        ("lost.mp4", "is not a video"),
        ("audio.mp4", "has no video, only audio"),
    ]:
        with pytest.raises(BrokenVideoError, match=rf"{name} {reason}"):
            list(read_video(tmp_path / name, 10, (32, 32)))
    with pytest.raises(UserError, match="no video file at"):
        list(read_video(tmp_path / "missing.mp4", 10, (32, 32)))


@pytest.mark.parametrize("height, width", [(64, 64), (45, 83), (90, 160), (301, 403)])
def test_mp4_can_be_played_by_browsers(tmp_path, height, width):
    frames = np.random.default_rng(0).integers(0, 256, (5, height // 5, width // 5 + 1, 3), dtype=np.uint8)
    frames = np.ascontiguousarray(frames.repeat(5, 1).repeat(5, 2)[:, :height, :width])
    write_video(tmp_path / "a.mp4", frames, 10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert min(stream.width, stream.height) >= 256 and stream.average_rate == 10
        assert len(list(container.decode(stream))) == 5
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_exact_mp4_keeps_colors(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    write_video(tmp_path / "a.mp4", colors, 10, exact=True)
    error = (read(tmp_path / "a.mp4", size=(64, 64)).astype(float) - colors) ** 2
    assert 10 * np.log10(255**2 / error.mean()) > 38


def test_png_holds_the_frames_side_by_side(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    write_video(tmp_path / "a.png", frames, 10)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == np.concatenate(list(frames), axis=1)).all()


def test_invalid_outputs_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.mp4, \.gif or \.png"):
        write_video(tmp_path / "a.xyz", numbered(3), 10)
    with pytest.raises(UserError, match="T >= 1"):
        write_video(tmp_path / "a.mp4", numbered(3)[:0], 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_video(tmp_path / "file" / "a.mp4", numbered(3), 10)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("old")

    def full(path, frames):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("djinn.data.video._write_png", full)
    with pytest.raises(UserError, match="no space left"):
        write_video(tmp_path / "a.png", numbered(3), 10)
    assert (tmp_path / "a.png").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
