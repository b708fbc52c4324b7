"""Downloads are whole and verified, or not there, whatever the server does (one on this machine)."""

import errno
import os
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from loopback import CONTENT, Server

from minigrad.data import fetch as fetching
from minigrad.data.fetch import DownloadError, Source, fetch


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetching, "TIMEOUT", 5.0)
    with Server() as server:
        yield server


def source(server, *behaviours, content=CONTENT):
    urls = tuple(server.url(behaviour) for behaviour in behaviours)
    return Source("data.bin", len(content), sha256(content).hexdigest(), urls)


def files_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("behaviour", ["good", "redirect"])
def test_a_file_arrives_whole_and_alone(server, tmp_path, behaviour):
    path = fetch(source(server, behaviour), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert files_under(tmp_path) == ["new/folder/data.bin"]


def test_the_progress_bar_ends_at_the_size(server, tmp_path, capfd):
    fetch(source(server, "cut"), tmp_path)
    said = capfd.readouterr().err
    assert "data.bin: 100%" in said and "700k/700k" in said


def test_a_file_url_is_a_mirror_like_any_other(tmp_path):
    (tmp_path / "origin").write_bytes(CONTENT)
    there = Source("data.bin", len(CONTENT), sha256(CONTENT).hexdigest(), ((tmp_path / "origin").as_uri(),))
    assert fetch(there, tmp_path / "cache").read_bytes() == CONTENT


def test_a_cut_connection_goes_on_where_it_stopped(server, tmp_path):
    assert fetch(source(server, "cut"), tmp_path).read_bytes() == CONTENT
    assert server.seen == [("cut", None), ("cut", "bytes=300000-")]


def test_a_server_that_cannot_go_on_starts_over(server, tmp_path):
    assert fetch(source(server, "cut_without_range"), tmp_path).read_bytes() == CONTENT
    assert server.seen == [("cut_without_range", None), ("cut_without_range", "bytes=300000-")]


REFUSED = {
    "missing": "HTTP 404 Not Found",
    "unavailable": "HTTP 503",
    "always_cut": "cut 5 times, the last time after 5,000 of 700,000 bytes",
    "cut_at_once": "ended after 0 of 700,000 bytes",
    "resumed_with_other_bytes": "sent other bytes .SHA-256 ",
    "wrong_range": "bytes from 299,993 on, asked from 300,000",
    "announces_less": "announces 1,000 bytes, the file has 700,000",
    "announces_more": "announces 700,001 bytes, the file has 700,000",
    "html": "announces 56 bytes, the file has 700,000",
    "html_without_length": "after 56 of 700,000 bytes",
    "html_of_the_right_length": "sent other bytes .SHA-256 ",
    "endless": "more than the 700,000 bytes",
    "hangs_before": "no answer for 0.3 seconds|no byte for 0.3 seconds|timed out",
    "hangs_within": "no byte for 0.3 seconds",
    "drips": "bytes a second are too slow",
}


@pytest.mark.parametrize("behaviour", REFUSED)
def test_a_bad_mirror_is_followed_by_the_next(server, tmp_path, behaviour, monkeypatch):
    if behaviour in ("hangs_before", "hangs_within", "drips"):
        monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    assert fetch(source(server, behaviour, "good"), tmp_path).read_bytes() == CONTENT
    assert server.seen[-1] == ("good", None)  # from the start: no file is made of two sources
    assert files_under(tmp_path) == ["data.bin"]


@pytest.mark.parametrize("behaviour", REFUSED)
def test_a_bad_mirror_alone_leaves_nothing_behind_and_says_why(server, tmp_path, behaviour, monkeypatch):
    if behaviour in ("hangs_before", "hangs_within", "drips"):
        monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    wanted = source(server, behaviour)
    with pytest.raises(DownloadError, match=REFUSED[behaviour]) as error:
        fetch(wanted, tmp_path)
    assert files_under(tmp_path) == []
    assert all(part in str(error.value) for part in (wanted.urls[0], wanted.sha256, str(tmp_path)))


def test_no_more_than_the_stated_size_is_taken(server, tmp_path):
    with pytest.raises(DownloadError):
        fetch(source(server, "endless"), tmp_path)
    for _ in range(100):
        if server.hung_up:
            break
        time.sleep(0.02)
    assert server.hung_up  # 140 MB were on offer


def test_without_a_network_every_mirror_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    urls = ("http://127.0.0.1:9/data.bin", "http://localhost:9/data.bin")
    with pytest.raises(DownloadError, match=r"refused.*refused") as error:
        fetch(Source("data.bin", 3, "0" * 64, urls), tmp_path)
    assert all(url in str(error.value) for url in urls) and "network" in str(error.value)
    assert files_under(tmp_path) == []


def test_an_older_file_stays_until_the_new_one_is_verified(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"older")
    with pytest.raises(DownloadError):
        fetch(source(server, "html_of_the_right_length"), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == b"older"
    fetch(source(server, "good"), tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == CONTENT


def test_an_interrupt_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fetch(source(server, "interrupts"), tmp_path)
        time.sleep(5)  # the interrupt is certain to arrive in here at the latest
    assert files_under(tmp_path) == []


def test_a_killed_process_s_remains_are_removed_and_a_running_one_s_are_not(server, tmp_path):
    (tmp_path / ".data.bin.77-abc.part").write_bytes(b"dead")
    os.utime(tmp_path / ".data.bin.77-abc.part", (0, 0))
    (tmp_path / ".data.bin.78-abc.part").write_bytes(b"alive")
    fetch(source(server, "good"), tmp_path)
    assert files_under(tmp_path) == [".data.bin.78-abc.part", "data.bin"]


FULL_DISK = """
import resource, sys
from hashlib import sha256
from pathlib import Path
from minigrad.data.fetch import DownloadError, Source, fetch

origin, folder = Path(sys.argv[1]), Path(sys.argv[2])
content = origin.read_bytes()
source = Source("data.bin", len(content), sha256(content).hexdigest(), (origin.as_uri(), origin.as_uri()))
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
try:
    fetch(source, folder)
except DownloadError as error:
    print(error)
"""


def test_a_full_disk_is_said_once_and_leaves_nothing_behind(tmp_path):
    """A limit on the size of files stands in for the disk: the same write fails in the same place."""
    pytest.importorskip("resource")
    (tmp_path / "origin").write_bytes(CONTENT)
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "origin"), str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip()
    assert f"{tmp_path / 'cache' / 'data.bin'} cannot be written (" in said
    assert "700,000 bytes" in said and "MINIGRAD_DATA" in said and "\n" not in said
    assert files_under(tmp_path / "cache") == []


def test_a_folder_that_cannot_be_written_is_named_before_any_request(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match=r"file/sub/data.bin cannot be written .*MINIGRAD_DATA"):
        fetch(source(server, "good"), tmp_path / "file" / "sub")

    def read_only(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(fetching, "open", read_only, raising=False)
    with pytest.raises(DownloadError, match="Read-only file system"):
        fetch(source(server, "good"), tmp_path)
    assert server.seen == []


def test_two_processes_at_once_both_succeed(server, tmp_path):
    results = []
    work = [
        threading.Thread(target=lambda: results.append(fetch(source(server, "good"), tmp_path))) for _ in "ab"
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in results] == [True, True]
    assert files_under(tmp_path) == ["data.bin"]
