"""`latent-lab chain export`: a chain to be given to others."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from latent_lab.cli.arguments import Arguments
from latent_lab.cli.chain_opened import OpenedChain, finished_checkpoint
from latent_lab.cli.console import say
from latent_lab.cli.errors import InputError
from latent_lab.cli.exporting import without_folders, write_checkpoint
from latent_lab.models.loading import load, read_checkpoint
from latent_lab.networks.pretrained import sha256_of


def export_chain(opened: OpenedChain, arguments: Arguments) -> None:
    """The kept translators as small checkpoints and the ledger, without folder names of this machine.

    Raises:
        InputError: if there is no folder to write to, or something is in it.
    """
    out = arguments.text("out")
    if out is None:
        raise InputError("chain export needs --out DIR: latent-lab chain export CHAIN --out DIR")
    folder = Path(out).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: choose another --out")
    folder.parent.mkdir(parents=True, exist_ok=True)
    kept = {}
    # In a folder of its own until all of it is there.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        unfinished = Path(temporary) / "chain"
        unfinished.mkdir()
        for name in dict.fromkeys(opened.ledger.chain):
            path = unfinished / f"{name}.ckpt"
            source = finished_checkpoint(opened.ledger, name)
            write_checkpoint(load(source), read_checkpoint(source), path, half="half" in arguments.options)
            kept[name] = {**opened.ledger.trainings[name], "checkpoint": path.name, "sha256": sha256_of(path)}
        settings = without_folders(opened.ledger.settings)
        # The file of this machine; without it, the estimator's weights are looked for where weights usually are.
        settings["chain"]["estimator_path"] = None
        dataclasses.replace(opened.ledger, folder=unfinished, trainings=kept, settings=settings).save()
        unfinished.replace(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"{folder}: {opened.ledger.structure}, {len(kept)} translators, {size / 1e6:.1f} MB")
