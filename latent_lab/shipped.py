"""Where the files that come with the package are: configurations and checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path


def shipped_folder(name: str) -> Path:
    """The folder `configs` or `checkpoints` of a source checkout, else of an installed wheel."""
    beside_the_package = Path(__file__).resolve().parents[1] / name
    return beside_the_package if beside_the_package.is_dir() else Path(sys.prefix) / "share" / "latent_lab" / name
