"""Downloads from a server on this machine that breaks off, starts anew, or sends something else."""

import hashlib
import http.server
import re
import threading
import time

import pytest

from tinylm import download
from tinylm.download import DownloadError, fetch
from tinylm.hub import HubError
from tinylm.hub import download as by_name

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789abcdef" * 2 + "01234567"


class Server(http.server.ThreadingHTTPServer):
    """What it shall do, and what was asked of it."""

    content = CONTENT
    breaks_after = None
    knows_ranges = True
    tells_length = True
    redirect = None
    other_part = 0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if not server.knows_ranges:
            start = 0
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            place = start + server.other_part
            self.send_header("Content-Range", f"bytes {place}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if server.tells_length:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = None if server.breaks_after is None else start + server.breaks_after
        self.wfile.write(server.content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "SCHEMES", ("http",))
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_that_breaks_off_goes_on_where_it_ended(server, tmp_path):
    path = tmp_path / "a" / "file"
    server.breaks_after = 100_000
    for _ in range(2):
        with pytest.raises(DownloadError, match="broke off, .* the next call goes on there"):
            fetch(server.url, path, SHA256)
        (part,) = names(path.parent)
        assert part.endswith(".part"), "no file of that name"
    assert fetch(server.url, path, SHA256) == path
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file"]
    assert [ranges for _, ranges in server.asked] == [None, "bytes=100000-", "bytes=200000-"]
    assert fetch(server.url, path, SHA256) == path
    assert len(server.asked) == 3, "it is not fetched again"


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.breaks_after = 100_000
    with pytest.raises(DownloadError, match="broke off, 156000 bytes before the end"):
        fetch(server.url, tmp_path / "file", SHA256)
    server.breaks_after, server.knows_ranges = None, False
    assert fetch(server.url, tmp_path / "file", SHA256).read_bytes() == CONTENT


def test_a_part_that_is_whole_is_taken(server, tmp_path):
    """Killed after the last byte and before the file had its name."""
    part = tmp_path / f"file.{SHA256[:16]}.part"
    part.write_bytes(CONTENT)
    assert fetch(server.url, tmp_path / "file", SHA256).read_bytes() == CONTENT
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("part", [b"something else", b"x" * 300_000])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, part):
    (tmp_path / f"file.{SHA256[:16]}.part").write_bytes(part)
    with pytest.raises(DownloadError, match="with the sha256 .*: wanted .*; nothing was kept"):
        fetch(server.url, tmp_path / "file", SHA256)
    assert names(tmp_path) == []
    assert fetch(server.url, tmp_path / "file", SHA256).read_bytes() == CONTENT


def test_another_part_than_the_one_asked_for_is_not_taken(server, tmp_path):
    (tmp_path / f"file.{SHA256[:16]}.part").write_bytes(CONTENT[:100])
    server.other_part = 1
    with pytest.raises(DownloadError, match="sent another part than the one from byte 100 on"):
        fetch(server.url, tmp_path / "file", SHA256)


def test_a_file_that_is_there_and_damaged_is_replaced(server, tmp_path):
    (tmp_path / "file").write_bytes(CONTENT[:-1])
    assert fetch(server.url, tmp_path / "file", SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("tells_length", [True, False])
def test_another_file_is_not_kept_and_no_more_of_it_read(server, tmp_path, tells_length):
    server.content, server.tells_length = CONTENT + CONTENT, tells_length
    with pytest.raises(DownloadError, match="sent 256001 bytes with the sha256"):
        fetch(server.url, tmp_path / "new" / "file", SHA256, size=len(CONTENT))
    assert names(tmp_path) == []


def test_only_https_also_behind_a_redirect(server, tmp_path, monkeypatch):
    server.redirect = "ftp://127.0.0.1/file"
    with pytest.raises(DownloadError, match="ftp://127.0.0.1/file: wanted http"):
        fetch(server.url, tmp_path / "file", SHA256)
    monkeypatch.undo()
    for url in (server.url, "file:///etc/hostname", "HTTP://x", "x"):
        with pytest.raises(DownloadError, match="wanted https"):
            fetch(url, tmp_path / "file", SHA256)
    assert len(server.asked) == 1
    assert names(tmp_path) == []


def test_a_model_by_its_name(server, tmp_path):
    folder = by_name(
        "owner/model", COMMIT, {"a.bin": SHA256, "b.json": SHA256}, tmp_path / "here", server.url
    )
    assert names(folder) == ["a.bin", "b.json"]
    assert server.asked[0] == (f"/owner/model/resolve/{COMMIT}/a.bin", None)


def test_a_model_that_is_not_the_pinned_one(server, tmp_path):
    server.content = b"another"
    with pytest.raises(HubError, match="download: http.*a.bin sent 7 bytes with the sha256"):
        by_name("owner/model", COMMIT, {"a.bin": SHA256}, tmp_path, server.url)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "../x"}, "name='../x': wanted an owner and a name"),
        ({"name": "a/b/c"}, "name='a/b/c'"),
        ({"name": "a/.."}, "name='a/..'"),
        ({"name": "a?b"}, "name="),
        ({"revision": "main"}, "revision='main': wanted 40 hexadecimal digits"),
        ({"revision": COMMIT.upper()}, "revision="),
        ({"revision": COMMIT + "\n"}, "revision="),
        ({"sha256": {"../a": SHA256}}, "sha256='../a': wanted the name of a file"),
        ({"sha256": {"/etc/a": SHA256}}, "sha256='/etc/a'"),
        ({"sha256": {".a": SHA256}}, "sha256='.a'"),
        ({"sha256": {"a\\b": SHA256}}, "sha256="),
        ({"sha256": {"a": "12"}}, "sha256 of a='12': wanted 64 hexadecimal digits"),
    ],
)
def test_what_is_asked_for_is_checked_first(server, tmp_path, changed, message):
    arguments = {"name": "a/b", "revision": COMMIT, "sha256": {"a": SHA256}} | changed
    with pytest.raises(HubError, match=re.escape(message)):
        by_name(**arguments, directory=tmp_path, base_url=server.url)
    assert not server.asked


def test_two_at_once_wait_for_each_other(server, tmp_path, monkeypatch):
    real, entered = download._append, threading.Event()

    def slowly(*args):
        entered.set()
        time.sleep(0.1)
        return real(*args)

    monkeypatch.setattr(download, "_append", slowly)
    found = []

    def get():
        found.append(fetch(f"{server.url}/a", tmp_path / "a", SHA256))

    first, second = threading.Thread(target=get), threading.Thread(target=get)
    first.start()
    entered.wait()
    second.start()
    first.join()
    second.join()
    assert found == [tmp_path / "a"] * 2
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(server.asked) == 1
