"""Every command of the README, in its order and with small budgets, in a folder that holds what the commands name."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from latent_lab.cli import main
from latent_lab.data.synthetic_renderer import render, sample_factors
from latent_lab.images import save_png
from tests.docs.test_documents import ROOT, commands_in_blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

README = ROOT / "README.md"


def tiny_chain(resolution: int) -> str:
    row = f"{{resolution: {resolution}, kimg: 0.008, batch_size: 4}}"
    trainings = f"--chain.reuse '[{row}]' --model.schedule '{{stages: [{row}]}}'"
    return f"--chain.num 4 --chain.num_resamples 4 --run.analyses [] {trainings}"


BUDGETS: dict[str, str] = {
    "fit": "--max-kimg 0.064 --run.analyses []",
    "fit --config view_synthesis_synthetic.yaml": "--data.num_runs 8 --max-kimg 0.064 --run.analyses []",
    "test": "--num-samples 16 --num-reference 16 --num-reconstructions 8 --num-paths 4 --num-swd 16 --num-resamples 4",
    "report": "--num 32 --num-reference 32 --num-resamples 4",
    "invert": "--num 2 --steps 2 --restarts 1",
    "restore": "--num 8",
    "why-fid": "--num 16",
    "sample": "--num 8",
    "mix": "--num-pairs 8",
    "train-regressor": "--kimg 0.1",
    "edit": "--num-exemplars 4 --num 4 --rows 2",
    "view-synthesis": "--num-samples 2 --num-resamples 4 --step 10 --video-frames 4",
    "chain build --config chain_synthetic.yaml": tiny_chain(32),
    "chain build --config chain_faces.yaml": (
        f"{tiny_chain(64)} --data.images.init_args.split last --data.images.init_args.holdout 0.4"
    ),
    "chain report": "--num 4",
}
"""Beginning of a command -> words that make it short."""

REFUSED = {
    "download": "could not be fetched",
    "import": "there is no file",
}
"""Commands that need a network or another project's weights -> what the one sentence says."""

ELSEWHERE = {"explore": "tests/unit/cli/test_explore_page.py uses every control of the page"}


class Outcome(NamedTuple):
    code: int
    said: str


def run(words: Sequence[str]) -> Outcome:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    return Outcome(code, said.getvalue())


def must_run(line: str) -> None:
    outcome = run(shlex.split(line))
    assert outcome.code == 0, f"{line}: {outcome.said}"


# ------------------------------------------------------------------------------------- what a reader is taken to have


def write_faces(folder: Path, first: int, count: int) -> None:
    folder.mkdir(parents=True)
    for place, image in enumerate(render(sample_factors(5, range(first, first + count)), 128).split(1)):
        save_png(folder / f"{place:03d}.png", image)


def write_run_of_a_camera(folder: Path, frames: int = 6) -> None:
    """Frames and the published table of poses."""
    write_faces(folder, 10_000, frames)
    lines = []
    for number in range(frames):
        (folder / f"{number:03d}.png").rename(folder / f"{number:04d}.png")
        angle = np.deg2rad(4.0 * number)
        columns = [np.cos(angle), 0, -np.sin(angle), 0, 1, 0, np.sin(angle), 0, np.cos(angle)]
        lines.append(",".join(map(str, [0.1 * number, number, 0, 0, 0, *columns])))
    (folder / "frames.csv").write_text("\n".join(lines), encoding="utf-8")


def write_labels(file: Path, folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["file,age,Smiling,Male"]
    for path in sorted(folder.iterdir()):
        lines.append(f"{path.name},{rng.integers(10, 75)},{rng.integers(2)},{rng.integers(2)}")
    file.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def stage(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of photographs, labels, the frames of a camera, weights of dlib's networks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LATENT_LAB_WEIGHTS", str(shared / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    counts = {"photos": 260, "more_photos": 8, "smiling": 6, "serious": 6, "faces": 640, "celeba-hq": 40}
    for place, (name, count) in enumerate(counts.items()):
        write_faces(tmp_path / name, 1000 * place, count)
    write_run_of_a_camera(tmp_path / "walk")
    write_labels(tmp_path / "labels.csv", tmp_path / "faces")
    write_labels(tmp_path / "list_attr_celeba.csv", tmp_path / "photos")
    (tmp_path / "weights").symlink_to(shared / "data" / "weights_face_id_dlib")
    return tmp_path


def prepare(line: str) -> None:
    """Trains and copies what the README takes for granted at this place."""
    for name, config in (("gamma", "gamma_vae_folder"), ("split", "split_vae_folder"), ("recoder", "recoder_folder")):
        if f"runs/{name}/" in line and not Path("runs", name).exists():
            decoder = "--model.decoder runs/gan_folder/checkpoints/last.ckpt" if name == "recoder" else ""
            must_run(f"fit --config {config}.yaml --data.root photos {decoder} --run-dir runs/{name} {BUDGETS['fit']}")
    for name in ("a", "b", "demo", "pioneer_synthetic"):
        if re.search(rf"runs/{name}\b", line) and not Path("runs", name).exists():
            must_run(f"fit --config pioneer_synthetic.yaml --run-dir runs/{name} {BUDGETS['fit']}")
    if line.startswith("compare runs/a runs/b"):
        for name in ("a", "b"):
            must_run(f"report runs/{name} {BUDGETS['report']}")
    if "test-100k" in line:
        for name in ("a", "b"):
            must_run(f"test --ckpt runs/{name}/checkpoints/last.ckpt --out runs/{name}/test-100k {BUDGETS['test']}")
    if "map-440k" in line:
        shutil.copytree(next(Path("runs/gamma").glob("map-*")), "runs/gamma/map-440k")
    if "faces.safetensors" in line:
        words = "--data.labels list_attr_celeba.csv --labels Smiling,Male --kimg 0.1 --out faces.safetensors"
        must_run(f"train-regressor --ckpt runs/gamma/checkpoints/last.ckpt {words}")


def budget(line: str) -> str:
    """The longest beginning that has one."""
    fitting = [name for name in BUDGETS if re.match(rf"{name}\b", line)]
    return BUDGETS[max(fitting, key=len)] if fitting else ""


def expanded(line: str) -> list[str]:
    """As a shell does it."""
    words = []
    for word in shlex.split(line, comments=True):
        found = sorted(map(str, Path().glob(word))) if "*" in word else []
        words += found or [str(Path(word).expanduser()) if word.startswith("~") else word]
    return words


def wrong_with(line: str) -> str | None:
    """What is wrong with a command, in a few words."""
    name = line.split()[0]
    prepare(line)
    outcome = run(expanded(f"{line} {budget(line)}"))
    if name in REFUSED:
        refused = outcome.code == 2 and REFUSED[name] in outcome.said
        return None if refused else f"is refused otherwise: {outcome.said}"
    return None if outcome.code == 0 else f"ended with {outcome.code}: {outcome.said[-600:]}"


def test_all_commands_of_the_readme_run(stage: Path):
    wrong = []
    for number, text in commands_in_blocks(README):
        line = text.removeprefix("latent-lab ").strip()
        if line.split()[0] in ELSEWHERE:
            continue
        begin = time.perf_counter()
        found = wrong_with(line)
        print(f"{time.perf_counter() - begin:.1f} s: {line}: {found or 'as it should'}", flush=True)
        if found is not None:
            wrong.append(f"line {number}: {line}: {found}")
    assert wrong == []
