"""Names are given in one step: of several writers one wins, and nothing that stands there is lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snncc import publish
from snncc.errors import SnnccError
from snncc.publish import place_file, place_folder, replace_folder
from snncc.safeio import write_whole

# Waits for the file `go`, so that all writers start together; says 0 or the exit code of the refusal.
WRITER = """
import sys, time
from pathlib import Path
from snncc.errors import SnnccError
from snncc.publish import place_folder
from snncc.safeio import write_whole
place, kind, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
made = place.with_name(f"made{name}")
made.mkdir()
(made / "who").write_text(name)
place.with_name(f"ready{name}").touch()
given_up = time.monotonic() + 60
while not place.with_name("go").exists() and time.monotonic() < given_up:
    pass
try:
    write_whole(place, name.encode()) if kind == "file" else place_folder(made, place)
except SnnccError as error:
    assert error.code == "SNNC-U002"
    sys.exit(error.exit_code)
except FileExistsError:
    sys.exit(2)
print(name)
"""


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "who").write_text(content)
    return path


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_of_several_writers_one_wins(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "out"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(place), kind, str(i)], stdout=subprocess.PIPE, text=True
        )
        for i in range(4)
    ]
    while sum(p.name.startswith("ready") for p in tmp_path.iterdir()) < len(writers):
        assert all(w.poll() is None for w in writers)
    (tmp_path / "go").touch()
    said = [w.communicate()[0] for w in writers]
    assert sorted(w.returncode for w in writers) == [0, 2, 2, 2]
    winner = next(text for text in said if text).strip()
    assert (place if kind == "file" else place / "who").read_text() == winner


def test_a_folder_takes_no_name_of_anything_but_an_empty_folder(tmp_path: Path) -> None:
    made = folder(tmp_path / "made", "new")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    folder(tmp_path / "full", "mine")
    for name in ("file", "link", "full"):
        with pytest.raises(FileExistsError):
            place_folder(made, tmp_path / name)
    place_folder(made, tmp_path / "empty")
    assert (tmp_path / "empty" / "who").read_text() == "new"
    assert (tmp_path / "full" / "who").read_text() == (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("at_once", [True, False])
def test_folders_change_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    if not at_once:
        monkeypatch.setattr(publish, "_exchange_at_once", lambda a, b: errno.ENOSYS)
    made, out = folder(tmp_path / "made", "new"), folder(tmp_path / "out", "old")
    with pytest.raises(FileExistsError):
        replace_folder(made, out, lambda path: (path / "who").read_text() != "old")
    assert ((made / "who").read_text(), (out / "who").read_text()) == ("new", "old")
    replace_folder(made, out, lambda path: (path / "who").read_text() == "old")
    assert ((made / "who").read_text(), (out / "who").read_text()) == ("old", "new")
    assert sorted(os.listdir(tmp_path)) == ["made", "out"]


def test_an_exchange_in_steps_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, out = folder(tmp_path / "made", "new"), folder(tmp_path / "out", "old")
    real = os.rename

    def rename(source: Path, target: Path) -> None:
        if source == made:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(publish, "_exchange_at_once", lambda a, b: errno.ENOSYS)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError, match="Input/output error"):
        replace_folder(made, out, lambda path: True)
    assert ((made / "who").read_text(), (out / "who").read_text()) == ("new", "old")


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    (tmp_path / "a").write_text("one")
    place_file(tmp_path / "a", tmp_path / "out")
    (tmp_path / "b").write_text("two")
    with pytest.raises(FileExistsError):
        place_file(tmp_path / "b", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "one"


def test_a_file_that_appears_while_another_is_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    monkeypatch.setattr(os, "fsync", lambda handle: path.write_text("mine"))
    with pytest.raises(SnnccError) as error:
        write_whole(path, b"new")
    assert str(error.value) == f"[SNNC-U002] {path}: exists already. Try another path, or force."
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["page.html"]
