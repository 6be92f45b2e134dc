"""Corpora: what every machine has, files, folders, and a download from a server on this machine."""

import functools
import hashlib
import http.server
import socket
import threading
from dataclasses import replace

import pytest

import tinylm as tl
from tinylm import download as downloads
from tinylm.text import CorpusError, corpora, documents, fingerprint, split


def test_python_docs_is_prose_without_its_repetitions():
    texts = documents("python-docs")
    text = tl.corpus("python-docs")
    assert text == corpora.JOIN.join(texts)
    assert 250_000 < len(text) < 600_000
    assert len(texts) > 40
    training, validation = split(texts)
    assert 0.05 < len(validation) / len(text) < 0.1
    shingles = {training[i : i + 30] for i in range(len(training))}
    seen = sum(validation[i : i + 30] in shingles for i in range(len(validation) - 30))
    assert seen / len(validation) < 0.1, "what is held out is, for the most part, not in training"
    assert split(texts) == (training, validation)


def test_python_code_is_the_standard_library():
    text = tl.corpus("python-code")
    assert 5_000_000 < len(text) < 30_000_000
    assert "class OrderedDict(dict):" in text


def test_files(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffhällo\r\nwörld\n".encode())
    assert tl.corpus(path) == tl.corpus(str(path)) == "hällo\r\nwörld\n"
    assert fingerprint(tl.corpus(path)) == hashlib.sha256("hällo\r\nwörld\n".encode()).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "there is no text in this file"),
        (b" \n\t ", "there is no text in this file"),
        (b"abc\xff\xfe", "not a text file: byte 0xff at offset 3 is not UTF-8"),
        (b"abc\x00def", "not a text file: a NUL character at offset 3"),
    ],
)
def test_files_that_are_no_text(tmp_path, content, message):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        tl.corpus(path)


def test_missing_files_name_the_corpora(tmp_path):
    with pytest.raises(CorpusError, match="no corpus of that name .python-docs, python-code, tiny"):
        tl.corpus("python-dogs")


def test_folders(tmp_path):
    for name, content in {
        "b.txt": b"second",
        "a/one.md": b"first",
        "picture.png": b"\x89PNG\r\n\x00",
        ".hidden": b"hidden",
        ".git/config": b"hidden",
        "empty.txt": b"",
        "copy.txt": b"second",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert documents(tmp_path) == ["first", "second"]
    assert tl.corpus(tmp_path) == "first\n\nsecond"
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ".hidden").write_bytes(b"hidden")
    with pytest.raises(CorpusError, match="no text in this folder"):
        tl.corpus(tmp_path / "none")


def test_split():
    assert split(["0123456789"], 0.3) == ("0123456", "789")
    texts = [f"document number {i} " * (i + 1) for i in range(30)]
    training, validation = split(texts, 0.2)
    parts = training.split(corpora.JOIN) + validation.split(corpora.JOIN)
    assert sorted(parts) == sorted(texts)
    assert 0.1 < len(validation) / sum(map(len, texts)) <= 0.21
    for wrong in (0, 1, -0.5):
        with pytest.raises(ValueError, match=r"wanted 0 < fraction < 1"):
            split(texts, wrong)
    few = [f"{i}" * 40_000 for i in range(8)]
    training, validation = split(few, 0.1)
    assert (len(training) - 7 * 2, len(validation)) == (288_000, 32_000), "the end of one"
    training, validation = split(["a" * 9000, "b" * 9000, "c"], 0.1)
    assert sorted(map(len, validation.split(corpora.JOIN))) == [1, 1799]
    assert split(["aaaaaaaa", "bb"], 0.2) == ("aaaaaaaa", "bb"), "one that just fits"
    with pytest.raises(CorpusError, match="5 characters in 1 documents are too few to hold out 1%"):
        split(["short"], 0.01)


@pytest.fixture
def server(tmp_path):
    """A server on this machine, and a description of the file that it has."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        content = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"
        (folder / "input.txt").write_bytes(content)
        yield (
            folder / "input.txt",
            replace(
                corpora.TINYSHAKESPEARE,
                url=f"http://127.0.0.1:{httpd.server_port}/input.txt",
                sha256=hashlib.sha256(content).hexdigest(),
                size=len(content),
            ),
        )
        httpd.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "SCHEMES", ("http",))
    return tmp_path / "cache"


def test_a_download_is_checked_and_kept(server, cache, monkeypatch):
    served, download = server
    monkeypatch.setattr(corpora, "TINYSHAKESPEARE", download)
    assert tl.corpus("tinyshakespeare").startswith("First Citizen")
    assert [path.name for path in cache.iterdir()] == ["tinyshakespeare.txt"]
    served.unlink()
    assert tl.corpus("tinyshakespeare").startswith("First Citizen"), "it is not fetched again"
    (cache / "tinyshakespeare.txt").write_text("damaged")
    with pytest.raises(CorpusError, match="could not be downloaded.*404.*A copy put at"):
        tl.corpus("tinyshakespeare")


@pytest.mark.parametrize("content", [b"something else", b"First Citizen:\nBefore", b"x" * 100_000])
def test_another_file_is_not_kept(server, cache, monkeypatch, content):
    served, download = server
    monkeypatch.setattr(corpora, "TINYSHAKESPEARE", download)
    served.write_bytes(content)
    with pytest.raises(CorpusError, match="with the sha256 .* nothing was kept"):
        tl.corpus("tinyshakespeare")
    assert not cache.exists()


@pytest.mark.parametrize(
    "answer", [b"junk\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nFi"]
)
def test_a_server_that_talks_nonsense(cache, monkeypatch, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/input.txt"
        monkeypatch.setattr(corpora, "TINYSHAKESPEARE", replace(corpora.TINYSHAKESPEARE, url=url))
        with pytest.raises(CorpusError, match="could not be downloaded"):
            tl.corpus("tinyshakespeare")
        thread.join()
    kept = [path.suffix for path in cache.iterdir()] if cache.exists() else []
    assert kept == ([".part"] if answer.endswith(b"Fi") else []), "no file of that name"


def test_no_network_is_said(cache, monkeypatch):
    nowhere = replace(corpora.TINYSHAKESPEARE, url="http://127.0.0.1:9/input.txt")
    monkeypatch.setattr(corpora, "TINYSHAKESPEARE", nowhere)
    with pytest.raises(CorpusError, match="could not be downloaded from http://127"):
        tl.corpus("tinyshakespeare")


def test_the_pinned_checksum_is_that_of_the_issue():
    assert corpora.TINYSHAKESPEARE.sha256.startswith(
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf"
    )


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("TINYLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert corpora.cache_folder() == tmp_path / "tinylm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert corpora.cache_folder() == tmp_path / "home" / ".cache" / "tinylm"
