"""Notebooks are stored without outputs, say which checkpoints they need, and run from the first cell to the last."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from latent_lab.models.loading import is_published, read_manifest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
from jupyter_client.kernelspec import KernelSpecManager  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
CELL_SECONDS = 300
"""Most of it is for a first import on a busy machine; the other cells take seconds."""

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)


def of_kind(notebook: Path, kind: str) -> list[str]:
    return [cell.source for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == kind]


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[AsyncKernelManager]:
    """Of this interpreter, with one thread, a cache of its own, and nothing of what the user has installed."""
    kernels = tmp_path / "kernels"
    (kernels / "python3").mkdir(parents=True)
    specification = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "env": {
            "OMP_NUM_THREADS": "1",
            "LATENT_LAB_CACHE": str(tmp_path / "cache"),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        },
    }
    (kernels / "python3" / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
    # Sockets in files: ports that are free now may be taken when the kernel asks for them, as tests run side by side.
    # Their paths must be short, which `tmp_path` is not.
    with tempfile.TemporaryDirectory(prefix="kernel") as sockets:
        yield AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False),
            transport="ipc",
            ip=f"{sockets}/s",
            connection_file=f"{sockets}/connection.json",
        )


@each_notebook
def test_a_notebook_runs_without_an_error(notebook: Path, tmp_path: Path, kernel: AsyncKernelManager):
    work = tmp_path / "work"
    work.mkdir()
    nbclient.NotebookClient(
        nbformat.read(notebook, as_version=4),
        km=kernel,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(work)}},
    ).execute(cleanup_kc=True)
    assert list(work.iterdir()) == [], "a notebook leaves files behind"


@each_notebook
def test_a_notebook_is_stored_without_outputs(notebook: Path):
    stored = nbformat.read(notebook, as_version=4)
    nbformat.validate(stored)
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@each_notebook
def test_a_notebook_begins_with_its_title_and_the_checkpoints_that_it_loads(notebook: Path):
    first = nbformat.read(notebook, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S", first.source)
    named = re.search(r"^Checkpoints?: (`\w+`(?:, `\w+`)*)", first.source, re.MULTILINE)
    assert named is not None
    shipped = {name for name, entry in read_manifest().items() if not is_published(entry)}
    loaded = set(re.findall(r'"(\w+)"', "\n".join(of_kind(notebook, "code")))) & shipped
    assert set(re.findall(r"`(\w+)`", named[1])) == loaded


@each_notebook
def test_links_of_a_notebook_lead_to_files(notebook: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(of_kind(notebook, "markdown")))
    files = [link.partition("#")[0] for link in links if "://" not in link]
    assert [name for name in files if not (notebook.parent / name).exists()] == []
