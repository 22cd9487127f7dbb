"""Every command of every document, in its order, with small budgets, in a folder that holds what commands name."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from latent_lab.cli import main
from latent_lab.data.synthetic_renderer import render, sample_factors
from latent_lab.images import save_png
from latent_lab.models.loading import resolve_checkpoint
from tests.docs.test_documents import CONFIGS, DOCUMENTS, ROOT, commands_in_blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def tiny_chain(resolution: int) -> str:
    row = f"{{resolution: {resolution}, kimg: 0.008, batch_size: 4}}"
    trainings = f"--chain.reuse '[{row}]' --model.schedule '{{stages: [{row}]}}'"
    return f"--chain.num 4 --chain.num_resamples 4 --run.analyses [] {trainings}"


BUDGETS: dict[str, str] = {
    "fit": "--max-kimg 0.064 --run.analyses []",
    "fit --config view_synthesis_synthetic.yaml": "--data.num_runs 8 --max-kimg 0.064 --run.analyses []",
    r"fit --config study_\w+.yaml": "--max-kimg 0.064 --run.analyses [] --data.holdout 0.2",
    "test": "--num-samples 16 --num-reference 16 --num-reconstructions 8 --num-paths 4 --num-swd 16 --num-resamples 4",
    "report": "--num 32 --num-reference 32 --num-resamples 4",
    "invert": "--num 2 --steps 2 --restarts 1",
    "restore": "--num 8",
    "why-fid": "--num 16",
    "analyze ex_post": "--num-samples 64 --num-fit 128 --num-reference 64 --num-pictures 8",
    "analyze split": "--num-samples 16 --num-reference 16 --num-reconstructions 8",
    "analyze translate": "--num 2 --num-measured 4",
    "analyze truncation": "--num 2 --num-measured 8",
    "analyze noise": "--num 2 --num-draws 4",
    "analyze views": "--num 32 --num-resamples 4",
    "compare-spaces": "--num-resamples 4",
    "map": "--num-fit 400 --num-images 16 --num-resamples 4",
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
    if any(word.endswith(("ddp.yaml", "ddp_find_unused_parameters_true")) for word in words):
        # Lightning starts the other processes with the command line of this one.
        command = [sys.executable, "-m", "latent_lab.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return Outcome(done.returncode, done.stdout + done.stderr)
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


def write_turntable(folder: Path, objects: int = 20, views: int = 72) -> None:
    """As many objects and views as COIL-20 has, of plain colours."""
    folder.mkdir()
    lines = ["file,object,azimuth"]
    for thing in range(objects):
        for view in range(views):
            colour = (255 * thing // objects, 255 * view // views, 128)
            Image.new("RGB", (32, 32), colour).save(folder / f"obj{thing}__{view}.png")
            lines.append(f"obj{thing}__{view}.png,{thing},{360 * view // views}")
    (folder / "poses.csv").write_text("\n".join(lines), encoding="utf-8")


def write_labels(file: Path, folder: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["file,age,Smiling,Male,smiling,split"]
    for place, path in enumerate(sorted(folder.iterdir())):
        split = ("train", "train", "val", "test")[place % 4]
        numbers = (rng.integers(10, 75), *rng.integers(2, size=3))
        lines.append(",".join(map(str, [path.name, *numbers, split])))
    file.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def belongings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of photographs, labels, the frames of a camera, a turntable."""
    folder = tmp_path_factory.mktemp("documents") / "belongings"
    counts = {"photos": 260, "more_photos": 8, "smiling": 6, "serious": 6, "faces": 640, "celeba-hq": 40, "samples": 40}
    for place, (name, count) in enumerate(counts.items()):
        write_faces(folder / name, 1000 * place, count)
    write_run_of_a_camera(folder / "walk")
    write_turntable(folder / "coil20")
    write_labels(folder / "list_attr_celeba.csv", folder / "photos")
    write_labels(folder / "labels.csv", folder / "faces")
    return folder


@pytest.fixture
def stage(tmp_path: Path, belongings: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own to work in, with weights of dlib's networks and of feature extractors."""
    shutil.copytree(belongings, tmp_path, copy_function=os.link, dirs_exist_ok=True)
    (tmp_path / "weights").symlink_to(shared / "data" / "weights_face_id_dlib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENT_LAB_CACHE", str(belongings.parent / "cache"))
    monkeypatch.setenv("LATENT_LAB_WEIGHTS", str(shared / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


CONFIGURATION_OF = {
    "gamma": "gamma_vae_folder",
    "split": "split_vae_folder",
    "recoder": "recoder_folder",
    "a": "pioneer_synthetic",
    "b": "pioneer_synthetic",
    "demo": "pioneer_synthetic",
}
"""Runs that are not called after their configuration."""

TAKEN_FOR_GRANTED = "taken_for_granted"
"""A file in runs that no command of the document has trained."""

IMPORTED = {"ffhq512.ckpt": "automodulator_faces32", "stylegan_ffhq1024.ckpt": "stylegan_faces32"}
"""Checkpoints of published weights, which are not here -> what takes their place."""


def prepare(line: str) -> None:
    """Trains, measures and copies what a document takes for granted at this place."""
    own = re.match(r"fit --config (\w+)\.yaml(?!.*--run-dir)", line)
    if own and Path("runs", own[1], TAKEN_FOR_GRANTED).exists():
        # A document may look at a run before it says how to train one.
        shutil.rmtree(Path("runs", own[1]))
    for name in re.findall(r"runs/(\w+)(?=/checkpoints|/test|/map| |$)", line):
        if "--run-dir runs/" + name not in line and not Path("runs", name).exists():
            train(name)
    for file in re.findall(r"(?<![\w/])[ab]\.ckpt|(?<![\w/])last\.ckpt", line):
        train("gamma")
        shutil.copy("runs/gamma/checkpoints/last.ckpt", file)
    for file, name in IMPORTED.items():
        if f"--ckpt {file}" in line:
            shutil.copy(resolve_checkpoint(name), file)
    for result in re.findall(r"runs/\w+/(?:test-100k|test)\b", line):
        run_of = Path(result).parent
        must_run(f"test --ckpt {run_of}/checkpoints/last.ckpt --out {result} {BUDGETS['test']}")
    if line.startswith("compare runs/a runs/b"):
        for name in ("a", "b"):
            must_run(f"report runs/{name} {BUDGETS['report']}")
    if "map-440k" in line:
        shutil.copytree(next(Path("runs/gamma").glob("map-*")), "runs/gamma/map-440k")
    if "--regressor faces.safetensors" in line:
        words = "--data.labels list_attr_celeba.csv --labels Smiling,Male --kimg 0.1 --out faces.safetensors"
        must_run(f"train-regressor --ckpt runs/gamma/checkpoints/last.ckpt {words}")


def train(name: str) -> None:
    """A run of this name, by the configuration that is called like it or is known for it."""
    configuration = CONFIGURATION_OF.get(name, name)
    if Path("runs", name).exists() or not (CONFIGS / f"{configuration}.yaml").is_file():
        return
    root = "--data.root photos" if configuration.endswith("_folder") else ""
    decoder = ""
    if name == "recoder":
        train("gan_folder")
        decoder = "--model.decoder runs/gan_folder/checkpoints/last.ckpt"
    must_run(f"fit --config {configuration}.yaml {root} {decoder} --run-dir runs/{name} {BUDGETS['fit']}")
    Path("runs", name, TAKEN_FOR_GRANTED).touch()


def shortened(line: str) -> list[str]:
    """The words of a command as a shell has them, with the longest beginning's budget instead of its own."""
    words = []
    for word in shlex.split(line, comments=True):
        found = sorted(map(str, Path().glob(word))) if "*" in word else []
        words += found or [str(Path(word).expanduser()) if word.startswith("~") else word]
    fitting = [name for name in BUDGETS if re.match(rf"{name}(?= |$)", line)]
    budget = shlex.split(BUDGETS[max(fitting, key=len)]) if fitting else []
    if "trainer/ddp.yaml" in line:
        budget += ["--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    if "trainer/gpu.yaml" in line:
        budget += ["--trainer.accelerator", "cpu"]
    for option in budget[::2]:
        if option in words:
            place = words.index(option)
            del words[place : place + 2]
    return words + budget


def wrong_with(line: str) -> str | None:
    """What is wrong with a command, in a few words."""
    name = line.split()[0]
    prepare(line)
    outcome = run(shortened(line))
    if name in REFUSED:
        refused = outcome.code == 2 and REFUSED[name] in outcome.said
        return None if refused else f"is refused otherwise: {outcome.said}"
    return None if outcome.code == 0 else f"ended with {outcome.code}: {outcome.said[-600:]}"


WITH_COMMANDS = [document for document in DOCUMENTS if any(commands_in_blocks(document))]


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_all_commands_of_a_document_run(document: Path, stage: Path):
    wrong = []
    for number, text in commands_in_blocks(document):
        line = text.removeprefix("latent-lab ").strip()
        if line.split()[0] in ELSEWHERE:
            continue
        line = line.replace("NAME", "balanced_pioneer_faces32")
        begin = time.perf_counter()
        found = wrong_with(line)
        print(f"{time.perf_counter() - begin:.1f} s: {line}: {found or 'as it should'}", flush=True)
        if found is not None:
            wrong.append(f"line {number}: {line}: {found}")
    assert wrong == []
