"""Downloading Haxby 2001 from a local server: resuming, verifying, and refusing unsafe archives."""

import gzip
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import fetch_haxby
from requests.exceptions import ConnectionError as NoConnection

from harness.app.verbs import run_verb
from harness.datasets import haxby_download
from harness.datasets.haxby import MASK_FILES, Haxby
from harness.datasets.haxby_download import find_damage
from harness.errors import DataError

ARCHIVE = "subj1-2010.01.14.tar.gz"


@pytest.fixture(scope="module")
def original(tiny_subject, tmp_path_factory):
    """A whole subject 1, with all masks and an anatomy."""
    home = tiny_subject(shape=(20, 16, 10)) / "haxby2001" / "subj1"
    for name in (*MASK_FILES.values(), "anat.nii.gz"):
        if not (home / name).exists():
            shutil.copy(home / "mask4_vt.nii.gz", home / name)
    return home


class Server(ThreadingHTTPServer):
    """Serves an archive, with pauses, and from the middle on a Range request."""

    daemon_threads = True

    def __init__(self, archive, pause=0.0):
        self.files = {ARCHIVE: archive}
        self.pause = pause
        self.resumes = True
        self.ranges = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        requested = self.headers.get("Range") if self.server.resumes else None
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
        self.server.ranges.append(start)
        if requested and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if requested else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if requested:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        try:
            for first in range(start, len(content), 1 << 13):
                self.wfile.write(content[first : first + (1 << 13)])
                time.sleep(self.server.pause)
        except OSError:
            pass  # the client was killed

    def log_message(self, *_):
        pass


def pack(home, path, last="bold.nii.gz"):
    """Pack a subject, one of its files last, always into the same bytes behind the header of gzip."""

    def without_time(entry):
        entry.mtime = 0
        return entry

    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for file in sorted(home.iterdir(), key=lambda file: (file.name == last, file.name)):
            tar.add(file, f"subj1/{file.name}", filter=without_time)
    return path.read_bytes()


@pytest.fixture
def serve(original, tmp_path, monkeypatch):
    """Start a server whose archive counts as the published one, and return it."""
    servers = []

    def start(archive=None, **options):
        server = Server(pack(original, tmp_path / "archive") if archive is None else archive, **options)
        servers.append(server)
        monkeypatch.setattr(haxby_download, "SERVERS", (server.url,))
        monkeypatch.setitem(haxby_download.ARCHIVE_MD5, 1, hashlib.md5(server.files[ARCHIVE]).hexdigest())
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def data_dir(original, tmp_path):
    """An empty data directory, but for the mask, whose server is another."""
    folder = tmp_path / "data" / "haxby2001"
    folder.mkdir(parents=True)
    shutil.copy(original / "mask4_vt.nii.gz", folder / "mask.nii.gz")
    return folder.parent


def assert_whole(data_dir, original):
    home = data_dir / "haxby2001" / "subj1"
    assert {file.name for file in home.iterdir()} == {file.name for file in original.iterdir()}
    for file in original.iterdir():
        assert (home / file.name).read_bytes() == file.read_bytes(), file.name
    left = {path.name for path in home.parent.iterdir()}
    assert left == {"subj1", "mask.nii.gz", "MD5SUMS"}


def test_a_download_is_complete_and_found_by_nilearn(serve, data_dir, original):
    serve()
    recording = Haxby(data_dir).fetch(1)
    assert_whole(data_dir, original)
    assert set(recording.masks) == {*MASK_FILES, "brain"}
    # nilearn finds it there: it does not contact the server.
    again = fetch_haxby(data_dir=str(data_dir), subjects=[1], url="http://127.0.0.1:9/", verbose=0)
    assert again.func == [str(recording.bold)]


def test_a_complete_subject_is_not_downloaded_again(serve, data_dir, original):
    server = serve()
    shutil.copytree(original, data_dir / "haxby2001" / "subj1")
    Haxby(data_dir).fetch(1)
    Haxby(data_dir).load(1)
    assert server.ranges == []


def test_a_kill_while_unpacking_leaves_no_partial_subject(serve, data_dir, original, monkeypatch):
    server = serve()
    real = tarfile.TarFile.extractall

    def killed(tar, path, **options):
        real(tar, path=path, **options)
        bold = path / "subj1" / "bold.nii.gz"
        bold.write_bytes(bold.read_bytes()[:5000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", killed)
        with pytest.raises(KeyboardInterrupt):
            Haxby(data_dir).fetch(1)
    assert not (data_dir / "haxby2001" / "subj1").exists()
    Haxby(data_dir).load(1)
    assert_whole(data_dir, original)
    assert server.ranges == [0], "the archive was whole, and need not be downloaded again"


def test_a_kill_before_the_last_rename_needs_no_second_download(serve, data_dir, original, monkeypatch):
    server = serve()
    rename = Path.rename

    def killed(self, target):
        if self.parent.name == ".subj1-unfinished":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            Haxby(data_dir).fetch(1)
    assert server.ranges == [0]
    Haxby(data_dir).fetch(1)
    assert_whole(data_dir, original)
    assert server.ranges == [0]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_killed_download_resumes(serve, data_dir, original):
    server = serve(pause=0.1)
    code = (
        "import sys\nfrom harness.datasets import haxby, haxby_download\n"
        "haxby_download.SERVERS = (sys.argv[1],)\nhaxby.Haxby(sys.argv[2]).fetch(1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url, str(data_dir)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        parts = list(data_dir.rglob("*.part"))
        if parts and parts[0].stat().st_size > 30_000:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (part,) = data_dir.rglob("*.part")
    size = part.stat().st_size
    assert 0 < size < len(server.files[ARCHIVE])
    server.pause = 0
    Haxby(data_dir).fetch(1)
    assert server.ranges == [0, size]
    assert_whole(data_dir, original)


def test_a_broken_connection_keeps_the_partial_download(serve, data_dir, original):
    server = serve()
    whole = server.files[ARCHIVE]

    class Short(bytes):
        def __len__(self):
            return len(whole)  # announces more than it sends

    server.files[ARCHIVE] = Short(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is kept, and the next attempt resumes"):
        Haxby(data_dir).fetch(1)
    server.files[ARCHIVE] = whole
    Haxby(data_dir).fetch(1)
    assert server.ranges[-1] > 0
    assert_whole(data_dir, original)


def test_an_archive_with_another_digest_is_removed(serve, data_dir, original, tmp_path):
    server = serve()
    published = server.files[ARCHIVE]
    server.files[ARCHIVE] = pack(original, tmp_path / "other", last="labels.txt")
    with pytest.raises(DataError, match=r"MD5 checksum is [0-9a-f]{32} instead of the published"):
        Haxby(data_dir).fetch(1)
    assert not list(data_dir.rglob("*.tar.gz*"))
    assert not (data_dir / "haxby2001" / "subj1").exists()
    server.files[ARCHIVE] = published
    Haxby(data_dir).fetch(1)
    assert_whole(data_dir, original)


def test_a_complete_partial_file_is_not_downloaded_again(serve, data_dir, original):
    """Killed between the last byte and the archive's own name."""
    server = serve()
    staging = data_dir / "haxby2001" / ".subj1-unfinished"
    staging.mkdir()
    (staging / f"{ARCHIVE}.part").write_bytes(server.files[ARCHIVE])
    Haxby(data_dir).fetch(1)
    assert server.ranges == [len(server.files[ARCHIVE])]
    assert_whole(data_dir, original)


@pytest.mark.parametrize("resumes", [True, False])
def test_a_partial_file_is_resumed_if_the_server_supports_it(serve, data_dir, original, resumes):
    server = serve()
    server.resumes = resumes
    staging = data_dir / "haxby2001" / ".subj1-unfinished"
    staging.mkdir()
    (staging / f"{ARCHIVE}.part").write_bytes(server.files[ARCHIVE][:5000])
    Haxby(data_dir).fetch(1)
    assert server.ranges == [5000 if resumes else 0]
    assert_whole(data_dir, original)


def test_https_is_tried_first_and_http_is_announced(serve, data_dir, original, monkeypatch, capsys):
    assert [server.partition(":")[0] for server in haxby_download.SERVERS] == ["https", "http"]
    server = serve()  # it knows no TLS
    monkeypatch.setattr(haxby_download, "SERVERS", (server.url.replace("http:", "https:"), server.url))
    Haxby(data_dir).fetch(1)
    printed = capsys.readouterr().err
    assert f"{server.url.replace('http:', 'https:')}{ARCHIVE} cannot be used" in printed
    assert f"trying {server.url}{ARCHIVE}, without encryption" in printed
    assert_whole(data_dir, original)


def test_the_second_server_is_used_only_if_the_first_fails(serve, data_dir, original, monkeypatch, capsys):
    first, second = serve(), serve()
    monkeypatch.setattr(haxby_download, "SERVERS", (first.url, second.url))
    Haxby(data_dir).fetch(1)
    assert (first.ranges, second.ranges) == ([0], [])
    assert "without encryption" not in capsys.readouterr().err


def test_every_archive_is_compared_with_its_published_digest(
    data_dir, serve, original, tmp_path, monkeypatch
):
    """The home of the data set has no encryption: what is not the published archive is refused."""
    server = serve()
    for subject in (2, 3, 4, 5, 6):
        server.files[ARCHIVE.replace("1", str(subject), 1)] = server.files[ARCHIVE]
        with pytest.raises(
            DataError, match=f"instead of the published {haxby_download.ARCHIVE_MD5[subject]}"
        ):
            Haxby(data_dir).fetch(subject)
    assert {path.name for path in (data_dir / "haxby2001").iterdir()} == {"mask.nii.gz", "MD5SUMS"}


def test_a_mask_that_is_not_the_published_one_is_refused(data_dir, serve, monkeypatch):
    server = serve()
    (data_dir / "haxby2001" / "mask.nii.gz").unlink()
    server.files["mask.nii.gz"] = b"another"
    monkeypatch.setattr(haxby_download, "BRAIN_MASK", f"{server.url}mask.nii.gz")
    with pytest.raises(DataError, match=r"mask\.nii\.gz .*SHA256 checksum"):
        Haxby(data_dir).fetch(1)
    assert list((data_dir / "haxby2001").iterdir()) == []
    digest = hashlib.sha256(b"another").hexdigest()
    monkeypatch.setitem(haxby_download.PUBLISHED[2], "mask.nii.gz", (7, digest))
    assert Haxby(data_dir).fetch(1).masks["brain"].read_bytes() == b"another"


def test_subject_2_is_compared_with_its_published_files_before_it_appears(
    data_dir, serve, original, tmp_path, monkeypatch
):
    server = serve()
    home = tmp_path / "subj2"
    shutil.copytree(original, home)
    with tarfile.open(tmp_path / "archive", "w:gz") as tar:
        tar.add(home, "subj2")
    name = ARCHIVE.replace("1", "2", 1)
    server.files[name] = (tmp_path / "archive").read_bytes()
    monkeypatch.setitem(haxby_download.ARCHIVE_MD5, 2, hashlib.md5(server.files[name]).hexdigest())
    with pytest.raises(DataError, match=r"bold\.nii\.gz has [0-9]+ bytes instead of 284094471"):
        Haxby(data_dir).fetch(2)
    assert not list((data_dir / "haxby2001").glob("*subj2*"))


def test_processes_that_fetch_at_the_same_time_download_once(serve, data_dir, original):
    server = serve(pause=0.002)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Haxby(data_dir).fetch, [1, 1, 1]))
    assert server.ranges == [0]
    assert_whole(data_dir, original)


@pytest.mark.parametrize("file", ["labels.txt", "bold.nii.gz"])
def test_a_damaged_subject_is_replaced_and_renamed(serve, data_dir, original, file, capsys):
    serve()
    home = data_dir / "haxby2001" / "subj1"
    shutil.copytree(original, home)
    (home / "my_roi.txt").write_text("mine")
    if file == "labels.txt":
        (home / file).unlink()
    else:
        content = (home / file).read_bytes()
        (home / file).write_bytes(content[: len(content) // 2])
    Haxby(data_dir).fetch(1)
    (aside,) = home.parent.glob("subj1-damaged-*")
    assert (aside / "my_roi.txt").read_text() == "mine"
    assert aside.name in capsys.readouterr().out
    assert find_damage(home) is None


def test_offline_one_message_names_the_archive_and_the_directory(data_dir, monkeypatch):
    def get(address, **options):
        raise NoConnection("HTTPConnectionPool(host='data.pymvpa.org', port=80): Max retries exceeded")

    monkeypatch.setattr("requests.get", get)
    (data_dir / "haxby2001" / "MD5SUMS").write_text("as it was")
    before = read_tree(data_dir)
    with pytest.raises(DataError) as raised:
        Haxby(data_dir).fetch(3)
    assert read_tree(data_dir) == before
    message = str(raised.value)
    for text in (
        "no connection",
        "http://data.pymvpa.org/datasets/haxby2001/subj3-2010.01.14.tar.gz",
        f"unpack it into {data_dir / 'haxby2001'}",
        str(data_dir / "haxby2001" / "subj3" / "bold.nii.gz"),
        "mask.nii.gz",
    ):
        assert text in message
    assert "\n" not in message


# Hostile and damaged archives ------------------------------------------------------------------


def member(name, content=b"", **attributes):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    for key, value in attributes.items():
        setattr(entry, key, value)
    return entry, content


def link(kind, name, target):
    return member(name, type=kind, linkname=target)


# Further members of an archive, given the directory outside of the data that they target.
HOSTILE = {
    "symbolic link, then a file below it": lambda out: [
        link(tarfile.SYMTYPE, "subj1/out", str(out)),
        member("subj1/out/stolen", b"x"),
    ],
    "symbolic link, relative": lambda out: [
        link(tarfile.SYMTYPE, "subj1/out", "../../../../outside"),
        member("subj1/out/stolen", b"x"),
    ],
    "symbolic link inside": lambda out: [link(tarfile.SYMTYPE, "subj1/copy.nii.gz", "bold.nii.gz")],
    "symbolic link for the subject": lambda out: [link(tarfile.SYMTYPE, "subj1", str(out))],
    "hard link, then its content": lambda out: [
        link(tarfile.LNKTYPE, "subj1/keep", str(out / "keep")),
        member("subj1/keep", b"overwritten"),
    ],
    "hard link to a member": lambda out: [link(tarfile.LNKTYPE, "subj1/copy", "subj1/labels.txt")],
    "absolute path": lambda out: [member(f"{out}/stolen", b"x")],
    "parent directory": lambda out: [member("subj1/../../../../outside/stolen", b"x")],
    "parent directory, still inside": lambda out: [member("subj1/../subj1/stolen", b"x")],
    "outside of the subject": lambda out: [member("stolen", b"x")],
    "backslashes": lambda out: [member("subj1\\..\\..\\stolen", b"x")],
    "drive": lambda out: [member("subj1/C:stolen", b"x")],
    "named pipe": lambda out: [member("subj1/pipe", type=tarfile.FIFOTYPE)],
    "device": lambda out: [member("subj1/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "set-uid": lambda out: [member("subj1/tool", b"#!", mode=0o4755)],
    "set-gid": lambda out: [member("subj1/tool", b"#!", mode=0o2755)],
    "duplicate": lambda out: [member("subj1/labels.txt", b"labels chunks\nface 0\n")],
    "duplicate with a dot": lambda out: [member("./subj1/./labels.txt", b"labels chunks\nface 0\n")],
    "file in the place of a directory": lambda out: [member("subj1", b"x")],
    "very many": lambda out: [member(f"subj1/{n}", b"") for n in range(3000)],
    "no name": lambda out: [member("", b"x")],
}


def pack_with(home, path, extra, first):
    own = [(tarfile.TarInfo(f"subj1/{file.name}"), file.read_bytes()) for file in sorted(home.iterdir())]
    for entry, content in own:
        entry.size = len(content)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for entry, content in [*extra, *own] if first else [*own, *extra]:
            tar.addfile(entry, io.BytesIO(content))
    return path.read_bytes()


def read_tree(folder):
    """Every file's content and mode, every link's target, every directory."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def surroundings(data_dir):
    """What lies around the data directory: a directory with a file, and a subject that is damaged."""
    outside = data_dir.parent / "outside"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    home = data_dir / "haxby2001" / "subj1"
    home.mkdir()
    (home / "my_roi.txt").write_text("mine")
    return outside


def assert_refused(data_dir, match):
    before = read_tree(data_dir.parent)
    with pytest.raises(DataError, match=match) as raised:
        Haxby(data_dir).fetch(1)
    after = read_tree(data_dir.parent)
    after.pop("data/haxby2001/MD5SUMS", None)
    assert after == before
    assert "\n" not in str(raised.value)


# One archive of each kind of attack by default: through a link, by its path, by its type, by its number.
DEFAULT_HOSTILE = ("symbolic link, then a file below it", "parent directory", "named pipe", "duplicate")


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        pytest.param(kind, first, marks=() if first and kind in DEFAULT_HOSTILE else pytest.mark.slow)
        for kind in HOSTILE
        for first in (True, False)
    ],
)
def test_a_hostile_archive_is_refused_and_writes_nothing(
    serve, data_dir, original, surroundings, tmp_path, kind, first
):
    serve(pack_with(original, tmp_path / "archive", HOSTILE[kind](surroundings), first))
    (tmp_path / "archive").unlink()
    assert_refused(data_dir, "subj1-2010.01.14.tar.gz")


def test_a_member_of_terabytes_is_refused_before_anything_is_written(
    serve, data_dir, original, surroundings, tmp_path
):
    """Its size is in the header alone; and a sparse file is small in the archive and large on the disk."""
    path = tmp_path / "archive.tar"
    with tarfile.open(path, "w") as tar:
        for file in original.iterdir():
            tar.add(file, f"subj1/{file.name}")
    entry = tarfile.TarInfo("subj1/huge")
    entry.size = 1 << 42
    whole = path.read_bytes().rstrip(b"\0")
    whole += b"\0" * (-len(whole) % 512) + entry.tobuf() + b"\0" * 1024
    path.unlink()
    serve(gzip.compress(whole))
    assert_refused(data_dir, "subj1-2010.01.14.tar.gz")


def test_an_archive_that_grows_without_end_is_refused(
    serve, data_dir, original, surroundings, tmp_path, monkeypatch
):
    monkeypatch.setattr("harness.datasets.archives.MAX_BYTES", 1 << 20)
    serve(gzip.compress(b"\0" * (1 << 21)))
    assert_refused(data_dir, "more than 1048576 bytes")


@pytest.mark.parametrize(
    "share",
    [
        pytest.param(0.0, marks=pytest.mark.slow),
        pytest.param(0.1, marks=pytest.mark.slow),
        0.5,
        pytest.param(0.9, marks=pytest.mark.slow),
        pytest.param(0.999, marks=pytest.mark.slow),
    ],
)
def test_an_archive_that_is_cut_short_is_refused(serve, data_dir, original, surroundings, tmp_path, share):
    archive = pack(original, tmp_path / "archive")
    (tmp_path / "archive").unlink()
    serve(archive[: int(share * len(archive))])
    assert_refused(data_dir, "subj1-2010.01.14.tar.gz")


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(0.001, marks=pytest.mark.slow),
        pytest.param(0.3, marks=pytest.mark.slow),
        0.7,
        pytest.param(0.9999, marks=pytest.mark.slow),
    ],
)
def test_an_archive_with_a_flipped_bit_is_refused(serve, data_dir, original, surroundings, tmp_path, place):
    archive = bytearray(pack(original, tmp_path / "archive"))
    (tmp_path / "archive").unlink()
    # Behind the header of gzip, whose file name no checksum covers. The bits that fill a byte before a stored
    # block have no meaning either: this is why the archive must not depend on the time.
    archive[max(int(place * len(archive)), 32)] ^= 0x10
    serve(bytes(archive))
    assert_refused(data_dir, "subj1")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing", marks=pytest.mark.slow),
        pytest.param(b"<html>404</html>", id="a page"),
        pytest.param(gzip.compress(b"no tar"), id="gzip without tar", marks=pytest.mark.slow),
        pytest.param(gzip.compress(b""), id="empty gzip", marks=pytest.mark.slow),
    ],
)
def test_other_content_than_an_archive_is_refused(serve, data_dir, surroundings, content):
    serve(content)
    assert_refused(data_dir, "subj1-2010.01.14.tar.gz")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("bold.nii.gz", marks=pytest.mark.slow),
        pytest.param("labels.txt", marks=pytest.mark.slow),
        pytest.param("mask8_face_vt.nii.gz", marks=pytest.mark.slow),
        "anat.nii.gz",
    ],
)
def test_an_archive_without_a_file_is_refused(serve, data_dir, original, surroundings, tmp_path, name):
    home = tmp_path / "copy"
    shutil.copytree(original, home)
    (home / name).unlink()
    archive = pack(home, tmp_path / "archive")
    shutil.rmtree(home)
    (tmp_path / "archive").unlink()
    serve(archive)
    assert_refused(data_dir, name)


def test_an_archive_whose_image_is_damaged_is_refused(serve, data_dir, original, surroundings, tmp_path):
    home = tmp_path / "copy"
    shutil.copytree(original, home)
    content = (home / "bold.nii.gz").read_bytes()
    (home / "bold.nii.gz").write_bytes(content[: len(content) // 2])
    archive = pack(home, tmp_path / "archive")
    shutil.rmtree(home)
    (tmp_path / "archive").unlink()
    serve(archive)
    assert_refused(data_dir, "bold.nii.gz is damaged")


# Wholeness and digests --------------------------------------------------------------------------------------


def test_every_truncation_of_an_image_is_detected(original, tmp_path):
    content = (original / "bold.nii.gz").read_bytes()
    home = tmp_path / "subj1"
    home.mkdir()
    shutil.copy(original / "labels.txt", home)
    (home / "bold.nii.gz").write_bytes(content)
    assert find_damage(home) is None
    for length in [0, 1, 10, 200, *np.linspace(300, len(content) - 1, 12).astype(int)]:
        (home / "bold.nii.gz").write_bytes(content[:length])
        assert "bold.nii.gz is damaged or cut short" in find_damage(home), length


def test_an_image_of_several_gzip_members_is_complete(original, tmp_path):
    import gzip

    home = tmp_path / "subj1"
    home.mkdir()
    shutil.copy(original / "labels.txt", home)
    content = gzip.decompress((original / "bold.nii.gz").read_bytes())
    (home / "bold.nii.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert nib.load(home / "bold.nii.gz").get_fdata().size
    assert find_damage(home) is None


def test_verify_compares_subject_2_with_the_published_files(original, tmp_path, monkeypatch, shared_data):
    home = tmp_path / "haxby2001" / "subj2"
    shutil.copytree(original, home)
    with pytest.raises(DataError, match=r"bold\.nii\.gz has [0-9]+ bytes instead of 284094471") as raised:
        Haxby(tmp_path).verify(Haxby(tmp_path).load(2))
    assert "subj2/labels.txt has SHA-256" in str(raised.value).replace(os.sep, "/")
    # The published labels are at hand; the images' digests are replaced by those of the stand-ins.
    shutil.copy(shared_data / "labels" / "subj2" / "labels.txt", home)
    bold = home / "bold.nii.gz"
    digest = hashlib.sha256(bold.read_bytes()).hexdigest()
    monkeypatch.setitem(haxby_download.PUBLISHED[2], "subj2/bold.nii.gz", (bold.stat().st_size, digest))
    verdict = Haxby(tmp_path).verify(Haxby(tmp_path).load(2))
    assert verdict == "verified: bold.nii.gz, labels.txt are the published files"
    flipped = bytearray(bold.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    bold.write_bytes(flipped)
    with pytest.raises(DataError, match=r"bold\.nii\.gz has SHA-256"):
        Haxby(tmp_path).verify(Haxby(tmp_path).load(2))


# The verb ---------------------------------------------------------------------------------------------------


def test_fetch_prints_the_files_of_every_subject(serve, data_dir, original, capsys):
    serve()
    status = run_verb(["fetch", "dataset=haxby", f"dataset.data_dir={data_dir}", "subject=1,3"])
    printed = capsys.readouterr()
    assert status == 1
    assert str(data_dir / "haxby2001" / "subj1" / "bold.nii.gz") in printed.out
    assert "complete: no file is cut short" in printed.out
    assert "subject 3 of Haxby 2001" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.slow
def test_fetch_simulates_subjects(simulated_cache, capsys):
    assert run_verb(["fetch", "subject=range(2,4)"]) == 0
    printed = capsys.readouterr().out
    for subject in (2, 3):
        file = simulated_cache / "simulated-v1-seed0" / "haxby2001" / f"subj{subject}" / "bold.nii.gz"
        assert f"{file.stat().st_size / 1e6:.3f} MB  {file}" in printed
    assert "SIMULATED" in printed


def test_fetch_refuses_unknown_options_and_subjects(capsys):
    assert run_verb(["fetch", "dataset=haxbi"]) == 2
    assert "Did you mean 'haxby'?" in capsys.readouterr().err
    assert run_verb(["fetch", "dataset=haxby", "subject=7"]) == 1
    assert "subjects 1 to 6" in capsys.readouterr().err
