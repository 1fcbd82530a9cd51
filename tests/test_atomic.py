"""Atomic writes, and checks of output paths before the work."""

import errno
import os
from pathlib import Path

import pytest

from djinn.atomic import (
    atomic_write,
    check_readable_file,
    check_writable_file,
    check_writable_folder,
    explain_full_disk,
)
from djinn.errors import UserError

CHECKS = (check_writable_file, check_writable_folder)


@pytest.mark.parametrize("check", CHECKS)
def test_check_of_a_writable_path_leaves_nothing(check, tmp_path: Path) -> None:
    assert check(tmp_path / "new" / "deep" / "results") == tmp_path / "new" / "deep" / "results"
    assert list(tmp_path.iterdir()) == []


def test_check_keeps_what_exists(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("precious")
    check_writable_file(tmp_path / "a.json")
    check_writable_folder(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("path", ["/proc/x/y", "/proc/x", "/dev/null/x", "/sys/x/y.json"])
def test_system_paths_are_refused_in_one_sentence(check, path: str) -> None:
    with pytest.raises(UserError, match=f"cannot write (to the folder )?{path} \\(.*\\): choose another") as refused:
        check(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("check", CHECKS)
def test_names_that_no_file_can_have_are_refused(check, tmp_path: Path) -> None:
    for name in ("a" * 300, "a\0b", "a" * 300 + "/b"):
        with pytest.raises(UserError, match="choose another"):
            check(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_folders_and_files_are_not_confused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a folder: give the name of a file"):
        check_writable_file(tmp_path)
    with pytest.raises(UserError, match="is a file: give the name of a folder"):
        check_writable_folder(tmp_path / "file")
    for check in CHECKS:
        with pytest.raises(UserError, match="not a directory"):
            check(tmp_path / "file" / "below")


@pytest.mark.parametrize("check", CHECKS)
def test_folder_without_write_permission(check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)  # the permissions of a folder do not stop root
    with pytest.raises(UserError, match=r"\(permission denied\): choose another"):
        check(tmp_path / "results")


def test_devices_are_not_replaced_by_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is not a regular file"):
        check_writable_file(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is not a regular file"), atomic_write(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, r"\(no space left on device\): free some space"), (errno.EIO, r"error\)$")]
)
def test_write_error_names_the_file(tmp_path: Path, code: int, message: str) -> None:
    error = rf"cannot write {tmp_path / 'a.json'} .*{message}"
    with pytest.raises(UserError, match=error), atomic_write(tmp_path / "a.json"):
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with atomic_write(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_readable_file_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("")
    assert check_readable_file(str(tmp_path / "a.mp4")) == tmp_path / "a.mp4"


def test_unreadable_files_are_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "a.mp4").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "missing", "there is no video file at .*missing: check the name"),
        (tmp_path / "link", "link is a link to target, which does not exist"),
        (tmp_path, "is a folder: give a video file"),
        (tmp_path / "pipe", "pipe is not a regular file"),
        (tmp_path / "a.mp4" / "b", "cannot read .*b .not a directory."),
        (tmp_path / ("a" * 300), "cannot read .*a .file name too long."),
    ):
        with pytest.raises(UserError, match=reason):
            check_readable_file(path, "video file")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the permissions of a file do not stop root
    with pytest.raises(UserError, match=r"no permission to read .*a\.mp4: change the permissions"):
        check_readable_file(tmp_path / "a.mp4")


def test_full_disk_inside_a_block_names_what_is_intact() -> None:
    message = "no space left while saving run; nothing was changed; free some space and rerun the command"
    with pytest.raises(UserError, match=message), explain_full_disk("run", "nothing was changed"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="I/O"), explain_full_disk("run", "nothing was changed"):
        raise OSError(errno.EIO, "I/O error")
