"""Downloading Haxby 2001, from a server on this machine; what is killed half-way is redone."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nilearn.datasets import _utils as nilearn_utils
from nilearn.datasets import fetch_haxby

from harness.cli import run_verb
from harness.datasets import haxby
from harness.datasets.haxby import MASK_FILES, Haxby, find_damage
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
    """Serves an archive, slowly where asked, and from the middle where asked."""

    daemon_threads = True

    def __init__(self, archive, pause=0.0):
        self.files = {
            ARCHIVE: archive,
            "MD5SUMS": f"{hashlib.md5(archive).hexdigest()}  {ARCHIVE}\n".encode(),
        }
        self.pause = pause
        self.ranges = []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if self.path.endswith(".gz"):
            self.server.ranges.append(start)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
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
    """Pack a subject, one of its files last."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for file in sorted(home.iterdir(), key=lambda file: (file.name == last, file.name)):
            tar.add(file, f"subj1/{file.name}")
    return path.read_bytes()


@pytest.fixture
def serve(original, tmp_path, monkeypatch):
    """Start a server, let nilearn ask it, and return it."""
    servers = []

    def start(archive=None, **options):
        server = Server(pack(original, tmp_path / "archive") if archive is None else archive, **options)
        servers.append(server)
        monkeypatch.setattr("nilearn.datasets.fetch_haxby", partial(fetch_haxby, url=server.url))
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def data_dir(original, tmp_path):
    """An empty data folder, but for the mask, whose server is another."""
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
    assert left <= {"subj1", "mask.nii.gz", "MD5SUMS", ".subj1.lock"}


def test_a_download_ends_whole_and_in_nilearns_own_place(serve, data_dir, original):
    serve()
    recording = Haxby(data_dir).fetch(1)
    assert_whole(data_dir, original)
    assert set(recording.masks) == {*MASK_FILES, "brain"}
    # nilearn itself finds it there: a second server would not be asked.
    again = fetch_haxby(data_dir=str(data_dir), subjects=[1], url="http://127.0.0.1:9/", verbose=0)
    assert again.func == [str(recording.bold)]


def test_what_is_whole_is_not_downloaded_again(serve, data_dir, original):
    server = serve()
    shutil.copytree(original, data_dir / "haxby2001" / "subj1")
    Haxby(data_dir).fetch(1)
    Haxby(data_dir).load(1)
    assert server.ranges == []


def test_killed_while_unpacking_nothing_half_written_is_taken_for_whole(
    serve, data_dir, original, monkeypatch
):
    """nilearn alone would take the half image: all files are there, and it looks no further."""
    serve()
    real = nilearn_utils._safe_extract

    def killed(tar, path, **options):
        real(tar, path=path, **options)
        bold = path / "subj1" / "bold.nii.gz"
        bold.write_bytes(bold.read_bytes()[:5000])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nilearn_utils, "_safe_extract", killed)
        with pytest.raises(KeyboardInterrupt):
            Haxby(data_dir).fetch(1)
    assert not (data_dir / "haxby2001" / "subj1").exists()
    Haxby(data_dir).load(1)
    assert_whole(data_dir, original)


def test_killed_before_the_last_rename_it_needs_no_second_download(serve, data_dir, original, monkeypatch):
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
def test_a_download_that_was_killed_goes_on_where_it_stopped(serve, data_dir, original):
    server = serve(pause=0.1)
    code = (
        "import sys, functools, nilearn.datasets as d\n"
        "d.fetch_haxby = functools.partial(d.fetch_haxby, url=sys.argv[1])\n"
        "from harness.datasets.haxby import Haxby\nHaxby(sys.argv[2]).fetch(1)"
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


def test_a_connection_that_breaks_keeps_what_has_arrived(serve, data_dir, original):
    server = serve()
    whole = server.files[ARCHIVE]

    class Short(bytes):
        def __len__(self):
            return len(whole)  # announces more than it sends

    server.files[ARCHIVE] = Short(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is kept, and the next try goes on"):
        Haxby(data_dir).fetch(1)
    server.files[ARCHIVE] = whole
    Haxby(data_dir).fetch(1)
    assert server.ranges[-1] > 0
    assert_whole(data_dir, original)


def test_an_archive_that_is_not_the_announced_one_is_thrown_away(serve, data_dir, original):
    server = serve()
    server.files["MD5SUMS"] = f"{'0' * 32}  {ARCHIVE}\n".encode()
    with pytest.raises(DataError, match="checksum"):
        Haxby(data_dir).fetch(1)
    assert not list(data_dir.rglob("*.tar.gz"))
    (data_dir / "haxby2001" / "MD5SUMS").unlink(missing_ok=True)
    server.files["MD5SUMS"] = f"{hashlib.md5(server.files[ARCHIVE]).hexdigest()}  {ARCHIVE}\n".encode()
    Haxby(data_dir).fetch(1)
    assert_whole(data_dir, original)


@pytest.mark.parametrize("file", ["labels.txt", "bold.nii.gz"])
def test_a_subject_that_is_not_whole_is_replaced_and_kept_aside(serve, data_dir, original, file, capsys):
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


def test_offline_one_message_says_what_to_download_and_where_to(data_dir, monkeypatch):
    monkeypatch.setattr("nilearn.datasets.fetch_haxby", partial(fetch_haxby, url="http://127.0.0.1:9/"))
    with pytest.raises(DataError) as raised:
        Haxby(data_dir).fetch(3)
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
    assert {path.name for path in (data_dir / "haxby2001").iterdir()} <= {"mask.nii.gz", ".subj3.lock"}


# Wholeness and digests --------------------------------------------------------------------------------------


def test_every_cut_of_an_image_is_noticed(original, tmp_path):
    content = (original / "bold.nii.gz").read_bytes()
    home = tmp_path / "subj1"
    home.mkdir()
    shutil.copy(original / "labels.txt", home)
    (home / "bold.nii.gz").write_bytes(content)
    assert find_damage(home) is None
    for length in [0, 1, 10, 200, *np.linspace(300, len(content) - 1, 12).astype(int)]:
        (home / "bold.nii.gz").write_bytes(content[:length])
        assert "bold.nii.gz is damaged or cut short" in find_damage(home), length


def test_an_image_in_several_compressed_parts_is_whole(original, tmp_path):
    import gzip

    home = tmp_path / "subj1"
    home.mkdir()
    shutil.copy(original / "labels.txt", home)
    content = gzip.decompress((original / "bold.nii.gz").read_bytes())
    (home / "bold.nii.gz").write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    assert nib.load(home / "bold.nii.gz").get_fdata().size
    assert find_damage(home) is None


def test_subject_2_is_compared_with_what_was_published(original, tmp_path, monkeypatch, shared_data):
    home = tmp_path / "haxby2001" / "subj2"
    shutil.copytree(original, home)
    with pytest.raises(DataError, match=r"bold\.nii\.gz has [0-9]+ bytes instead of 284094471") as raised:
        Haxby(tmp_path).verify(Haxby(tmp_path).load(2))
    assert "subj2/labels.txt has SHA-256" in str(raised.value).replace(os.sep, "/")
    # The published labels are at hand; the images' digests are replaced by those of the stand-ins.
    shutil.copy(shared_data / "labels" / "subj2" / "labels.txt", home)
    bold = home / "bold.nii.gz"
    digest = hashlib.sha256(bold.read_bytes()).hexdigest()
    monkeypatch.setitem(haxby.PUBLISHED[2], "subj2/bold.nii.gz", (bold.stat().st_size, digest))
    verdict = Haxby(tmp_path).verify(Haxby(tmp_path).load(2))
    assert verdict == "verified: bold.nii.gz, labels.txt are the published files"
    flipped = bytearray(bold.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    bold.write_bytes(flipped)
    with pytest.raises(DataError, match=r"bold\.nii\.gz has SHA-256"):
        Haxby(tmp_path).verify(Haxby(tmp_path).load(2))


# The verb ---------------------------------------------------------------------------------------------------


def test_the_verb_fetches_every_subject_and_says_where(serve, data_dir, original, capsys):
    serve()
    status = run_verb(["fetch", "dataset=haxby", f"dataset.data_dir={data_dir}", "subject=1,3"])
    printed = capsys.readouterr()
    assert status == 1
    assert str(data_dir / "haxby2001" / "subj1" / "bold.nii.gz") in printed.out
    assert "complete: no file is cut short" in printed.out
    assert "subject 3 of Haxby 2001" in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.slow
def test_the_verb_makes_simulated_subjects(simulated_cache, capsys):
    assert run_verb(["fetch", "subject=range(2,4)"]) == 0
    printed = capsys.readouterr().out
    for subject in (2, 3):
        file = simulated_cache / "simulated-v1-seed0" / "haxby2001" / f"subj{subject}" / "bold.nii.gz"
        assert f"{file.stat().st_size / 1e6:.3f} MB  {file}" in printed
    assert "SIMULATED" in printed


def test_the_verb_refuses_what_a_run_refuses(capsys):
    assert run_verb(["fetch", "dataset=haxbi"]) == 2
    assert "Did you mean 'haxby'?" in capsys.readouterr().err
    assert run_verb(["fetch", "dataset=haxby", "subject=7"]) == 1
    assert "subjects 1 to 6" in capsys.readouterr().err
