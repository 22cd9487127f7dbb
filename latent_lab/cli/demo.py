"""`latent-lab demo`: the main job from beginning to end on built-in data, through the commands that a person types."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import say

CONFIGURATION = "pioneer_synthetic.yaml"
_COUNTS = "--num-samples 2000 --num-reference 2000 --num-reconstructions 500 --num-paths 500 --num-swd 1000"
"""Enough to see a trend, few enough for a laptop."""
_LOOKS = {
    "sample": "Samples: new faces, drawn at random, none left out",
    "reconstruct": "Reconstructions: faces the model has never seen, over what it makes of them",
    "interpolate": "Interpolations: walks through the latent space",
}


def demo(arguments: Arguments) -> int:
    """Trains (or continues), tests, draws, writes report.md; returns the first exit code that is not 0."""
    folder = Path(arguments.text("out") or "runs/demo").expanduser()
    changes = [f"--{key}={text}" for key, text in arguments.overrides]
    checkpoint = str(folder / "checkpoints" / "last.ckpt")
    code = _run(["fit", "--config", CONFIGURATION, "--run-dir", str(folder), "--resume", "auto", *changes])
    code = code or _run(["test", "--ckpt", checkpoint, "--out", str(folder / "test"), *shlex.split(_COUNTS)])
    for look in _LOOKS:
        extra = ["--split", "test"] if look == "interpolate" else []
        code = code or _run([look, "--ckpt", checkpoint, "--out", str(folder / look), *extra])
    if code == 0:
        say(f"everything is in {_write_report(folder)}")
    return code


def _run(words: list[str]) -> int:
    from latent_lab.cli import dispatch

    say(f"$ latent-lab {shlex.join(words)}")
    return dispatch(words)


def _write_report(folder: Path) -> Path:
    """One page with pictures and numbers; links are relative, so the folder can be moved."""
    result: dict[str, Any] = json.loads((folder / "test" / "result.json").read_text(encoding="utf-8"))
    seen = result["protocol"]["checkpoint"]["images_seen"]
    lines = ["# A small Pioneer network on drawn faces", ""]
    lines += [
        f"Trained on {seen:,} images. Continue with `latent-lab fit --run-dir {folder} --resume auto --max-kimg N`."
    ]
    for look, title in _LOOKS.items():
        lines += ["", f"## {title}", ""]
        lines += [f"![{picture.stem}]({look}/{picture.name})" for picture in sorted((folder / look).glob("*.png"))]
    if (folder / "curves.png").is_file():
        lines += ["", "## Training", "", "![curves](curves.png)"]
    lines += ["", "## Numbers", "", "Of held-out faces; [test/report.md](test/report.md) says how they were measured."]
    lines += ["", "| number | value |", "|---|---:|"]
    lines += [f"| `{name}` | {value:.5g} |" for name, value in result["numbers"].items()]
    path = folder / "report.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
