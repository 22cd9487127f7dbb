"""How a variational autoencoder uses its latents, over a whole set of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latent_lab import distributed
from latent_lab.analyses.base import AbstractAnalysis, Result
from latent_lab.analyses.feeding import as_tensor, batches, real_images, share, situation, spread
from latent_lab.latent.interfaces import AbstractStochasticEncoder
from latent_lab.objectives.vae import INACTIVE_BELOW, kl_per_latent
from latent_lab.plotting import bars
from latent_lab.types import ImageSource, Latents

_ALMOST_PRIOR = 0.95


@dataclass(frozen=True)
class Posterior(AbstractAnalysis):
    """Active and inactive latents, the law of total variance, and the KL of every latent."""

    name = "posterior"
    requires = AbstractStochasticEncoder
    needs_images = True

    num: int | None = None
    """How many images, evenly spaced over the source; none: all."""
    batch_size: int = 64
    """Images at a time on each device; changes no number beyond rounding."""

    def __post_init__(self) -> None:
        if self.num is not None and self.num < 2:
            raise ValueError(f"posterior needs num of at least 2, got {self.num}")
        if self.batch_size < 1:
            raise ValueError(f"posterior needs batch_size of at least 1, got {self.batch_size}")

    @torch.no_grad()
    def run(self, model: AbstractStochasticEncoder, source: ImageSource | None) -> Result:
        """Numbers: counts of latents, the variance law's mean over latents, KL in nats, whole and by latent.

        Raises:
            ValueError: if the source has fewer than two images.
        """
        assert source is not None
        if len(source) < 2:
            raise ValueError(f"posterior needs at least 2 images, got {len(source)}: name a larger data set")
        mean, deviation = self._posteriors(model, source)
        spread_of_means, noise = mean.var(0, correction=0), deviation.square().mean(0)
        kl = kl_per_latent(mean, 2 * deviation.log()).mean(0)
        active = int((spread_of_means >= INACTIVE_BELOW).sum())
        numbers: dict[str, float] = {
            "latents_active": active,
            "latents_inactive": len(kl) - active,
            "latents_almost_prior": int((noise > _ALMOST_PRIOR).sum()),
            "variance_law": (spread_of_means + noise).mean().item(),
            "kl": kl.sum().item(),
            **{f"kl_of_latent_{place:03d}": value for place, value in enumerate(kl.tolist())},
        }
        protocol = {
            **situation(model),
            "num": len(mean),
            "latents_inactive": f"variance of the means over images below {INACTIVE_BELOW}",
            "latents_almost_prior": f"mean variance of the posteriors above {_ALMOST_PRIOR}",
            "variance_law": "Var(mean) + mean(variance), mean over latents; 1 if the aggregate posterior is the prior",
        }
        ordered = kl.sort(descending=True).values.tolist()
        figure = bars(
            ordered, title=f"KL of each latent, largest first: {kl.sum():.1f} nats, {active} active", y="nats"
        )
        return Result(self.name, numbers, protocol, {"kl_of_latents": figure})

    def _posteriors(self, model: AbstractStochasticEncoder, source: ImageSource) -> tuple[Latents, Latents]:
        """Means and deviations (N, D) of all images on every rank, float64."""
        places = spread(len(source), self.num)
        mine = share(len(places))
        rows = [torch.empty(0, 2, model.latent_space.dim, dtype=torch.float64)]
        for indices in batches(mine, self.batch_size):
            posterior = model.posterior(real_images(model, source, [places[i] for i in indices]))
            rows.append(torch.stack([posterior.mean, posterior.stddev], 1).double().cpu())
        everywhere, _ = distributed.gather_ragged(torch.cat(rows), as_tensor(mine))
        return everywhere[:, 0], everywhere[:, 1]
