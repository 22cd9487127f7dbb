"""`latent-lab download`, with a server on this machine for the network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from latent_lab.models import loading

CONTENT = bytes(range(256)) * 9000
"""More than two pieces of a download."""
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/absent"):
            self.send_error(404, "Not Found")
            return
        is_page = self.path.startswith("/page")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8" if is_page else "application/octet-stream")
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:3000] if self.path.startswith("/short") else CONTENT)

    def log_message(self, *args: object) -> None:
        """Silence."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Writes a manifest with one published entry; its argument is the table of its file."""

    def write(*files: str) -> None:
        (folder / "manifest.toml").write_text(
            '[own]\nfile = "own.ckpt"\nsummary = "ours"\n'
            '[faces]\nsummary = "theirs"\npage = "https://example.org/faces"\nimporter = "automodulator"\n'
            f'becomes = "faces.ckpt"\nlicence = "MIT"\nfiles = [{", ".join(files)}]\n',
            encoding="utf-8",
        )
        monkeypatch.setattr(loading, "shipped_folder", lambda name: folder)

    return write


@pytest.mark.parametrize("digest", [f', sha256 = "{SHA256}"', f', md5 = "{MD5}"'])
def test_a_file_is_fetched_checked_and_its_import_shown(latent_lab, folder: Path, manifest, server: str, digest: str):
    manifest(f'{{ name = "1_state.pth", url = "{server}/file"{digest} }}')
    outcome = latent_lab("download", "faces", "--out", "new")
    assert outcome.code == 0, outcome.error
    assert (folder / "new" / "1_state.pth").read_bytes() == CONTENT
    assert [path.name for path in (folder / "new").iterdir()] == ["1_state.pth"]
    assert "2,304,000 bytes, " in outcome.out
    assert "as it should be" in outcome.out
    assert "next: latent-lab import automodulator new/1_state.pth --out faces.ckpt" in outcome.out


def test_where_no_digest_is_known_it_is_shown(latent_lab, manifest, server: str):
    manifest(f'{{ name = "x", url = "{server}/file" }}')
    assert f"sha256 {SHA256} (which one it should be is not known)" in latent_lab("download", "faces", "--out", "n").out


def test_a_file_may_lie_in_a_folder(latent_lab, folder: Path, manifest):
    (folder / "there").write_bytes(CONTENT)
    manifest(f'{{ name = "x", url = "{(folder / "there").as_uri()}" }}')
    assert latent_lab("download", "faces", "--out", "new").code == 0
    assert (folder / "new" / "x").read_bytes() == CONTENT


def test_what_is_there_is_not_fetched_again(latent_lab, folder: Path, manifest):
    (folder / "new").mkdir()
    (folder / "new" / "x").write_bytes(CONTENT)
    manifest(f'{{ name = "x", url = "http://127.0.0.1:9/nowhere", sha256 = "{SHA256}" }}')
    outcome = latent_lab("download", "faces", "--out", "new")
    assert (outcome.code, "was there already, sha256 as it should be" in outcome.out) == (0, True)


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_a_file_with_another_digest_is_not_kept(latent_lab, folder: Path, manifest, server: str, name: str):
    wrong = "0" * (64 if name == "sha256" else 32)
    manifest(f'{{ name = "x", url = "{server}/file", {name} = "{wrong}" }}')
    outcome = latent_lab("download", "faces", "--out", "new")
    assert outcome.code == 2
    assert f"the manifest says {wrong}: it was changed or damaged on its way, and was not kept" in outcome.error
    assert not list((folder / "new").iterdir())


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (
            "/absent",
            "could not be fetched (the server answers 404 Not Found): try again later, or get x with a browser",
        ),
        (
            "/page",
            "shows a page instead of giving a file: get x with a browser from https://example.org/faces into new",
        ),
        ("/short", "or get x with a browser from https://example.org/faces into new"),
    ],
)
def test_what_cannot_be_fetched_is_to_be_got_by_hand(
    latent_lab, folder: Path, manifest, server: str, place: str, reason: str
):
    manifest(f'{{ name = "x", url = "{server}{place}" }}')
    outcome = latent_lab("download", "faces", "--out", "new")
    assert outcome.code == 2
    last = outcome.error.splitlines()[-1]
    assert last.startswith(f"latent-lab: {server}{place}")
    assert reason in last
    assert not list((folder / "new").iterdir())


def test_without_a_network_one_sentence_says_what_to_do(latent_lab, manifest):
    # Port 9 (discard) of this machine refuses connections.
    manifest('{ name = "x", url = "http://127.0.0.1:9/x" }')
    outcome = latent_lab("download", "faces", "--out", "new")
    assert (outcome.code, outcome.error.count("\n")) == (2, 1), outcome.error
    assert "http://127.0.0.1:9/x could not be fetched (" in outcome.error


def test_a_place_that_needs_a_browser_is_named_with_the_whole_way(latent_lab, folder: Path, manifest):
    manifest('{ name = "1_state" }', '{ name = "1_SNU" }')
    outcome = latent_lab("download", "faces", "--out", "new")
    assert (outcome.code, outcome.error.count("\n")) == (2, 1), outcome.error
    assert (
        "faces cannot be fetched by a program: get 1_state and 1_SNU with a browser from https://example.org/faces "
        "into new, then `latent-lab import automodulator new/1_state --out faces.ckpt`"
    ) in outcome.error
    assert not (folder / "new").exists()


def test_our_own_checkpoints_need_no_download(latent_lab, manifest):
    manifest('{ name = "x" }')
    outcome = latent_lab("download", "own", "--out", "new")
    assert (outcome.code, "own comes with the project and needs no download" in outcome.error) == (2, True)


def test_an_unknown_name_is_refused_with_those_there_are(latent_lab, manifest):
    manifest('{ name = "x" }')
    outcome = latent_lab("download", "face", "--out", "new")
    assert (outcome.code, "no published checkpoint face: did you mean faces?" in outcome.error) == (2, True)


def test_a_missing_folder_is_asked_for(latent_lab):
    outcome = latent_lab("download", "automodulator_ffhq512")
    assert outcome.code == 2
    assert "latent-lab download NAME --out DIR" in outcome.error


def test_a_published_name_is_no_checkpoint_until_it_is_imported(latent_lab):
    outcome = latent_lab("sample", "--ckpt", "automodulator_ffhq512")
    assert (outcome.code, outcome.error.count("\n")) == (2, 1)
    assert "latent-lab download automodulator_ffhq512 --out DIR" in outcome.error


def test_published_checkpoints_are_listed_apart(latent_lab):
    own, _, published = latent_lab("checkpoints").out.partition("\nPublished by others, ")
    assert "balanced_pioneer_faces32" in own
    assert "automodulator_ffhq512" not in own
    assert "automodulator_ffhq512" in published
