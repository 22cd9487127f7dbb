"""Several translators, one after another, as one: a chain over ordered domains (Heljakka et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import torch

from latent_lab.images import quantise
from latent_lab.latent.interfaces import AbstractTranslator
from latent_lab.types import Images


class Chain(AbstractTranslator):
    """Ordered domains with a translator for each step between neighbours; a translator may serve several steps.

    A step onward is a translator's way from its first domain to its second, and a step back the reverse, wherever in
    the chain it stands: a re-used translator does the same to whatever it is given, its own output included.

    Args:
        domains: names, in their order.
        translators: one for each step, in order.
        rounded: whether images are rounded to 8 bits between steps, as in the published program, which went through
            files.

    Raises:
        ValueError: if there are not as many translators as steps, or they are for images of several sizes.
    """

    def __init__(
        self, domains: Sequence[str], translators: Sequence[AbstractTranslator], *, rounded: bool = False
    ) -> None:
        if len(domains) < 2 or len(set(domains)) < len(domains):
            raise ValueError(
                f"a chain needs two or more domains with names of their own, got {', '.join(domains) or 'none'}"
            )
        if len(translators) != len(domains) - 1:
            raise ValueError(
                f"a chain of {len(domains)} domains has {len(domains) - 1} steps, got {len(translators)} translators"
            )
        sizes = sorted({translator.resolution for translator in translators})
        if len(sizes) > 1:
            raise ValueError(f"translators of a chain must be for images of one size, got {', '.join(map(str, sizes))}")
        self._domains = tuple(domains)
        self.translators = tuple(translators)
        self.rounded = rounded

    @property
    def domains(self) -> tuple[str, ...]:
        """Names, in their order."""
        return self._domains

    @property
    def resolution(self) -> int:
        """Pixels per side."""
        return self.translators[0].resolution

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(getattr(self.translators[0], "device", "cpu"))

    @property
    def structure(self) -> str:
        """How many steps in a row each translator serves: "1+3+1"."""
        return "+".join(str(len(list(group))) for _, group in groupby(self.translators, key=id))

    def way(self, source: str, target: str) -> tuple[str, ...]:
        """Domains from one to the other, both included, in the order in which they are passed.

        Raises:
            ValueError: if one of them is not in the chain.
        """
        return way_between(self.domains, source, target)

    def stations(self, images: Images, source: str, target: str) -> Iterator[Images]:
        """The images of the source domain after each step of the way, (N, C, R, R), one for each domain after it."""
        for here, there in pairwise(self.way(source, target)):
            images = self.step(images, here, there)
            yield images

    def step(self, images: Images, here: str, there: str) -> Images:
        """Images moved from a domain to its neighbour.

        Raises:
            ValueError: if these are no neighbours.
        """
        first, last = sorted((self.domains.index(here), self.domains.index(there)))
        if last - first != 1:
            raise ValueError(f"a step of the chain leads from a domain to its neighbour, got {here} and {there}")
        translator = self.translators[first]
        younger, older = translator.domains[:2]
        ends = (younger, older) if self.domains[first] == here else (older, younger)
        moved = translator.translate(images, *ends)
        return quantise(moved) if self.rounded else moved

    def translate(self, images: Images, source: str, target: str) -> Images:
        """Images (N, C, R, R) moved from the source domain to the target domain, step by step."""
        for moved in self.stations(images, source, target):
            images = moved
        return images


def way_between(domains: Sequence[str], source: str, target: str) -> tuple[str, ...]:
    """Domains from one to the other, both included, in the order in which they are passed.

    Args:
        domains: of a chain, in order.
        source: where the way begins.
        target: where it ends.

    Raises:
        ValueError: if one of them is not in the chain.
    """
    for name in (source, target):
        if name not in domains:
            raise ValueError(f"the chain has the domains {', '.join(domains)}, got {name!r}")
    first, last = domains.index(source), domains.index(target)
    direction = 1 if first <= last else -1
    return tuple(domains[first::direction][: abs(last - first) + 1])


__all__ = ["Chain", "way_between"]
