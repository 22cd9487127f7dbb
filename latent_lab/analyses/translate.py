"""Images of one domain moved step by step to another one and back: what a translator, or a chain of them, does."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import HeldOut, batches, device_of, spread
from latent_lab.analyses.sample import magnification
from latent_lab.images import enlarge, make_grid
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.networks.age_estimation import find_age_estimator
from latent_lab.types import DomainSource, Images, ImageSource


def images_of_domain(source: ImageSource, name: str) -> ImageSource:
    """The images of one domain where a source has several; those of any other source are taken to be of it."""
    images = source.images if isinstance(source, HeldOut) else source
    return images.domain(name) if isinstance(images, DomainSource) else images


@dataclass(frozen=True)
class Translate(AbstractAnalysis):
    """A row of images, one below for each domain on the way, and the images that lead back again; none left out."""

    name = "translate"
    requires = AbstractTranslator
    needs_images = True

    from_domain: str | None = None
    """Name of the domain where the way begins; null: the model's first."""
    to_domain: str | None = None
    """Name of the domain where it ends and turns; null: the model's last."""
    num: int = 8
    """Images in each row, evenly spaced over those of the first domain."""
    num_measured: int = 256
    """Images that are counted in the numbers; fewer if there are fewer."""
    estimator: str | None = None
    """What estimates ages: drawn (drawn discs), dlib_age, regressor, or the import path of a network of your own."""
    estimator_path: str | None = None
    """File of the estimator's weights."""
    estimator_box: str | None = None
    """Of dlib_age, where the face is: celeba, celeba_narrow, ffhq or utkface."""
    batch_size: int = 64
    """Images at a time."""

    def __post_init__(self) -> None:
        for option in ("num", "num_measured", "batch_size"):
            if getattr(self, option) < 1:
                raise ValueError(f"translate needs {option} of at least 1, got {getattr(self, option)}")

    @torch.no_grad()
    def run(self, model: AbstractTranslator, source: ImageSource | None) -> Result:
        """Numbers: `change` from the first images to the last, `cycle_error` after the way back (mean |x - y| in units
        of [-1, 1]); with an estimator, the mean age in each domain of the way, such as `age_drawn_at_35`.

        Raises:
            ValueError: if a domain is unknown or has no images.
        """
        assert source is not None
        way = self._way(model)
        images = images_of_domain(source, way[0])
        places = spread(len(images), self.num_measured)
        if not places:
            raise ValueError("translate needs at least one image and the source is empty: name another folder")
        stations: list[list[Tensor]] = [[] for _ in range(len(way) + 1)]
        for piece in batches(range(len(places)), self.batch_size):
            moved = images.batch([places[row] for row in piece], model.resolution).images.to(device_of(model))
            stations[0].append(moved.cpu())
            for number, (here, there) in enumerate(pairwise(way), start=1):
                moved = model.translate(moved, here, there)
                stations[number].append(moved.float().cpu())
            stations[-1].append(model.translate(moved, way[-1], way[0]).float().cpu())
        rows: list[Images] = [torch.cat(station) for station in stations]
        numbers = {
            "change": (rows[-2] - rows[0]).abs().mean().item(),
            "cycle_error": (rows[-1] - rows[0]).abs().mean().item(),
        }
        protocol = {"model": type(model).__name__, "resolution": model.resolution, "way": way, "num": len(places)}
        if self.estimator is not None:
            estimator = find_age_estimator(self.estimator, self.estimator_path, box=self.estimator_box)
            protocol["estimator"] = estimator.describe()
            for domain, station in zip(way, rows, strict=False):
                numbers[f"{estimator.label}_at_{domain}"] = estimator(station).mean().item()
        shown = spread(len(places), self.num)
        sheet = make_grid(torch.cat([row[shown] for row in rows]), len(shown))
        pictures = {"translations": enlarge(sheet, magnification(model.resolution))}
        return Result(self.name, numbers, {**protocol, "curated": False}, pictures)

    def _way(self, model: AbstractTranslator) -> list[str]:
        """Domains from one end to the other, both included, in the order in which they are passed."""
        names = model.domains
        ends = (self.from_domain or names[0], self.to_domain or names[-1])
        for end in ends:
            if end not in names:
                raise ValueError(f"translate knows the model's domains, {', '.join(names)}, got {end}")
        first, last = (names.index(end) for end in ends)
        if first == last:
            raise ValueError(f"translate needs two domains, got {names[first]} for both ends")
        step = 1 if first < last else -1
        return [names[place] for place in range(first, last + step, step)]


__all__ = ["Translate", "images_of_domain"]
