"""The output's name: complete or not there, never somebody else's file, and disk errors in plain words."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from making import constant, ffmpeg, packet_times, write_segments

from streamlight.errors import ConfigError, MediaError
from streamlight.media import destination
from streamlight.media.destination import check_destination, disk_errors, partial_path, publish
from streamlight.media.encode import EncodeSettings
from streamlight.media.mux import join


@pytest.fixture
def segments(tmp_path):
    return write_segments(tmp_path / "segments", constant(20), container="x.mkv")


def leftovers(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != "segments")


def test_an_existing_file_is_kept(tmp_path, segments):
    target = tmp_path / "o.mkv"
    target.write_bytes(b"mine")
    with pytest.raises(MediaError, match="--overwrite"):
        join(segments, None, target)
    assert target.read_bytes() == b"mine"
    join(segments, None, target, overwrite=True)
    assert len(packet_times(target)) == 20
    assert leftovers(tmp_path) == ["o.mkv"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, segments):
    target = tmp_path / "o.mkv"

    def appear(_count):
        target.write_bytes(b"mine")

    many = write_segments(tmp_path / "segments", constant(120), container="x.mkv", size=60)
    with pytest.raises(MediaError, match="appeared"):
        join(many, None, target, progress=appear)
    assert target.read_bytes() == b"mine"
    assert leftovers(tmp_path) == ["o.mkv"]


@pytest.mark.parametrize("links", [True, False])
def test_without_an_exclusive_rename_a_hard_link_does_it_or_a_second_look(tmp_path, monkeypatch, links):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(destination, "_rename_exclusive", lambda *_: False)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    partial, target = tmp_path / ".a.part", tmp_path / "a"
    partial.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(MediaError, match="appeared"):
        publish(partial, target, overwrite=False)
    assert target.read_bytes() == b"old"
    target.unlink()
    publish(partial, target, overwrite=False)
    assert target.read_bytes() == b"new"
    assert leftovers(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["same", "symbolic", "hard", "spelling"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_input_and_output_must_differ(tmp_path, kind, overwrite):
    source = tmp_path / "in.mkv"
    source.write_bytes(b"x")
    target = tmp_path / "link.mkv"
    if kind == "symbolic":
        target.symlink_to(source)
    elif kind == "hard":
        os.link(source, target)
    else:
        target = source if kind == "same" else tmp_path / "sub" / ".." / "in.mkv"
        (tmp_path / "sub").mkdir()
    with pytest.raises(MediaError, match="same file"):
        check_destination(source, target, overwrite=overwrite)


def test_places_that_cannot_work(tmp_path):
    with pytest.raises(MediaError, match="does not exist"):
        check_destination(None, tmp_path / "none" / "o.mkv", overwrite=False)
    (tmp_path / "folder.mkv").mkdir()
    with pytest.raises(MediaError, match="is a folder"):
        check_destination(None, tmp_path / "folder.mkv", overwrite=True)
    (tmp_path / "dangling.mkv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(MediaError, match="exists already"):
        check_destination(None, tmp_path / "dangling.mkv", overwrite=False)
    assert leftovers(tmp_path) == ["dangling.mkv", "folder.mkv"]


def test_an_unwritable_folder_is_named(tmp_path, monkeypatch):
    def refuse(*_args, **_more):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(
        tempfile, "TemporaryFile", refuse
    )  # root may write everywhere, so permissions alone do not tell
    with pytest.raises(MediaError, match="cannot be written"):
        check_destination(None, tmp_path / "o.mkv", overwrite=False)


def test_a_failing_join_leaves_nothing(tmp_path, segments):
    def stop(_count):
        raise KeyboardInterrupt

    many = write_segments(tmp_path / "segments", constant(120), container="x.mkv", size=60)
    with pytest.raises(KeyboardInterrupt):
        join(many, None, tmp_path / "o.mkv", progress=stop)
    assert leftovers(tmp_path) == []
    many[1].path.write_bytes(many[1].path.read_bytes()[:-200])
    with pytest.raises(MediaError, match="cut off"):
        join(many, None, tmp_path / "o.mkv")
    assert leftovers(tmp_path) == []
    many[1].path.unlink()
    with pytest.raises(MediaError):
        join(many, None, tmp_path / "o.mkv")
    assert leftovers(tmp_path) == []


def test_segments_that_do_not_belong_together(tmp_path, segments):
    with pytest.raises(MediaError, match="overlap"):
        join([segments[0], segments[0]], None, tmp_path / "o.mkv")
    with pytest.raises(MediaError, match="no segment"):
        join([], None, tmp_path / "o.mkv")
    other = write_segments(
        tmp_path / "other", constant(3, start=10**6), container="x.mkv", settings=EncodeSettings(codec="ffv1")
    )
    with pytest.raises(MediaError, match="different encoders"):
        join([*segments, *other], None, tmp_path / "o.mkv")
    with pytest.raises(ConfigError, match="webm"):
        join(segments, None, tmp_path / "o.webm")


# -- full disks ----------------------------------------------------------------------------------------------------


def test_system_errors_become_one_clear_line(tmp_path):
    for number, words in [
        (errno.ENOSPC, "no space left"),
        (errno.EROFS, "cannot be written"),
        (errno.EIO, "cannot be written"),
    ]:
        with pytest.raises(MediaError, match=words) as caught, disk_errors(tmp_path / "o.mkv"):
            raise OSError(number, os.strerror(number))
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


LIMITED = """
    import resource, signal, sys
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from making import constant, export, write_segments
    from streamlight.errors import MediaError
    from streamlight.media.encode import EncodeSettings
    from streamlight.media.mux import join
    folder = Path({folder!r})
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    ready = write_segments(folder / "ready", constant(60, width=160, height=96), container="x.{suffix}",
                           settings=EncodeSettings(codec={codec!r}), size=30)
    limit = sum(s.size for s in ready) * {percent} // 100
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        join(ready, None, folder / "o.{suffix}")
    except MediaError as error:
        print("JOIN", error)
    try:
        write_segments(folder / "again", constant(200, width=160, height=96), container="x.{suffix}",
                       settings=EncodeSettings(codec={codec!r}), size=200)
    except MediaError as error:
        print("SEGMENT", error)
    print(sorted(p.name for p in folder.iterdir()), sorted(p.name for p in (folder / "again").iterdir()))
"""


@pytest.mark.parametrize(("codec", "suffix"), [("h264", "mp4"), ("h264", "ts"), ("ffv1", "mkv")])
@pytest.mark.parametrize("percent", [50])
def test_a_file_that_may_not_grow(tmp_path, codec, suffix, percent):
    """As on a full disk, everywhere: the file size limit refuses the write in the same places."""
    text = LIMITED.format(
        tests=str(Path(__file__).parent), folder=str(tmp_path), codec=codec, suffix=suffix, percent=percent
    )
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(text)], capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    for line, word in zip(lines, ("JOIN", "SEGMENT"), strict=False):
        assert line.startswith(word), lines
        assert "too large" in line
        assert "choose another" in line
    assert lines[-1] == "['again', 'ready'] []"


def _mount(folder):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    return (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", folder], capture_output=True).returncode == 0
    )


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_really_full_disk(tmp_path, suffix):
    """On a small tmpfs where mounting is allowed; the limit test above runs everywhere."""
    ready = write_segments(
        tmp_path / "ready", constant(60, width=160, height=96), container=f"x.{suffix}",
        settings=EncodeSettings(quality=5), size=30,
    )  # fmt: skip
    assert sum(s.size for s in ready) > 96_000
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = _mount(disk)
    try:
        if mounted:
            with pytest.raises(MediaError, match="no space left") as caught:
                join(ready, None, disk / f"o.{suffix}")
            assert str(disk) in str(caught.value)
            with pytest.raises(MediaError, match="no space left"):
                write_segments(
                    disk, constant(200, width=160, height=96), container="x.mkv", settings=EncodeSettings(quality=1)
                )
            for segment in disk.iterdir():  # closed before the disk was full: they stay for resuming
                segment.unlink()
        assert list(disk.iterdir()) == []
    finally:
        if mounted:
            subprocess.run(["umount", disk], check=True)


# -- interruption --------------------------------------------------------------------------------------------------


def test_a_killed_join_can_be_repeated(tmp_path, segments):
    """kill -9 in the middle of writing: the name is free, and the next join takes the temporary file over."""
    source = tmp_path / "segments" / "source.mkv"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc=s=64x48:r=25:d=0.8", "-f", "lavfi", "-i", "sine=440:d=0.8", "-c:a", "flac", source
    )
    want = tmp_path / "segments" / "want.mkv"
    join(segments, source, want)
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from streamlight.media import mux
        from making import constant, write_segments
        infos = write_segments(Path({str(tmp_path)!r}) / "segments", constant(20), container="x.mkv")
        real = mux._Join._mux_one
        count = 0
        def mux_one(self, *arguments):
            global count
            count += 1
            real(self, *arguments)
            if count == 12:
                os.kill(os.getpid(), signal.SIGKILL)
        mux._Join._mux_one = mux_one
        mux.join(infos, {str(source)!r}, {str(tmp_path / "o.mkv")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert leftovers(tmp_path) == [".o.mkv.part"]
    join(segments, source, tmp_path / "o.mkv")
    assert leftovers(tmp_path) == ["o.mkv"]
    for stream in ("v:0", "a:0"):
        assert packet_times(tmp_path / "o.mkv", stream) == packet_times(want, stream)


def test_joining_twice_gives_the_same_packets(tmp_path, segments):
    for name in ("a.mp4", "b.mp4"):
        join(segments, None, tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_partial_names_are_hidden_and_beside_the_output():
    assert partial_path(Path("x/o.mkv")) == Path("x/.o.mkv.part")


def test_memory_does_not_grow_with_the_length(tmp_path):
    """Joining reads one packet at a time: ten times the length costs no more memory."""
    code = """
        import resource, sys
        sys.path.insert(0, {tests!r})
        from pathlib import Path
        from making import constant, write_segments
        from streamlight.media.encode import EncodeSettings
        from streamlight.media.mux import join
        folder = Path({folder!r})
        infos = write_segments(folder / "s", constant({count}, width=320, height=240), container="x.mkv",
                               settings=EncodeSettings(codec="ffv1"), size=50)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        join(infos, None, folder / "o.mkv")
        print(sum(i.size for i in infos) // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    grown = {}
    for count in (50, 400):
        folder = tmp_path / str(count)
        folder.mkdir()
        text = textwrap.dedent(code.format(tests=str(Path(__file__).parent), folder=str(folder), count=count))
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=True)
        grown[count] = tuple(map(int, done.stdout.split()))
    assert grown[400][0] > 8000  # KiB of video
    assert grown[400][1] < 8000 + grown[50][1] < 20000
