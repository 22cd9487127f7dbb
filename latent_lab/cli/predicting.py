"""`latent-lab predict`: codes and reconstructions of images, one by one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from latent_lab import distributed, images
from latent_lab.analyses.feeding import batches, share
from latent_lab.cli.arguments import Arguments
from latent_lab.cli.console import quieten, say
from latent_lab.cli.progress import progress_on_console
from latent_lab.cli.trained import load_trained, source_of, viewed
from latent_lab.latent.interfaces import AbstractAutoencoder, require

_BATCH = 64


@torch.no_grad()
def predict(arguments: Arguments) -> None:
    """Writes codes.safetensors and one PNG for each image, numbered by its index."""
    quieten()
    trained = load_trained(arguments, "predict")
    seen, _ = viewed(trained, arguments)
    model = require(seen, AbstractAutoencoder, by="predict")  # type: ignore[type-abstract]
    source = source_of(arguments, trained)
    out = arguments.text("out")
    folder = Path(out).expanduser() if out else trained.results_folder("predict")
    pictures = folder / "reconstructions"
    folder.mkdir(parents=True, exist_ok=True)
    if not arguments.options.get("no-pictures"):
        pictures.mkdir(exist_ok=True)
    codes, indices = [torch.empty(0, model.latent_space.dim)], [torch.empty(0, dtype=torch.int64)]
    with progress_on_console():
        for piece in batches(share(len(source)), _BATCH, "images encoded"):
            batch = source.batch(piece, trained.model.resolution)
            latents = model.encode(batch.images.to(trained.model.device))
            codes.append(latents.float().cpu())
            indices.append(batch.index)
            if not arguments.options.get("no-pictures"):
                for index, picture in zip(batch.index.tolist(), model.decode(latents), strict=True):
                    images.save_png(pictures / f"{index:06d}.png", picture[None].cpu())
    everywhere, order = distributed.gather_ragged(torch.cat(codes), torch.cat(indices))
    if distributed.rank() == 0:
        save_file({"index": order, "latents": everywhere.contiguous()}, folder / "codes.safetensors")
    say(f"{len(order)} images: {folder / 'codes.safetensors'}{f', {pictures}' if pictures.is_dir() else ''}")
