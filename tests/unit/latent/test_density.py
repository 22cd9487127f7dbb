from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latent_lab.latent.density import Mixture, Rescaled, SecondStage, WithPrior, fit_mixture
from latent_lab.latent.interfaces import AbstractAutoencoder
from latent_lab.latent.spaces import Gaussian, Hypersphere

COUNT = 200_000


def normals(dim: int, count: int = COUNT, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def mixture() -> Mixture:
    """Three components in the plane with unequal weights and slanted covariances."""
    return Mixture(
        torch.tensor([0.5, 0.3, 0.2]),
        torch.tensor([[0.0, 0.0], [4.0, -2.0], [-3.0, 5.0]]),
        torch.tensor([[[1.0, 0.0], [0.5, 0.5]], [[0.3, 0.0], [0.0, 2.0]], [[1.0, 0.0], [-1.0, 0.1]]]),
    )


def test_samples_have_the_mean_and_covariance_of_the_mixture():
    space = mixture()
    samples = space.from_normal(normals(2))
    mean = (space.weights[:, None] * space.means).sum(0)
    within = space.factors @ space.factors.mT
    between = (space.means - mean)[:, :, None] * (space.means - mean)[:, None, :]
    covariance = (space.weights[:, None, None] * (within + between)).sum(0)
    # Standard errors of means are below 5 / sqrt(200,000) = 0.011, of covariances below 0.06; four of them are allowed.
    torch.testing.assert_close(samples.mean(0), mean, atol=0.045, rtol=0)
    torch.testing.assert_close(samples.T.cov(), covariance, atol=0.25, rtol=0)


def test_components_come_as_often_as_their_weights_say():
    shares = torch.bincount(mixture().component_of(normals(2)), minlength=3) / COUNT
    # Four standard errors: 4 sqrt(0.25 / 200,000) = 0.0045.
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.0045, rtol=0)


@pytest.mark.parametrize("dim", [1, 2, 64])
def test_the_component_knows_nothing_of_the_sample(dim: int):
    components = 4
    factors = torch.eye(dim).repeat(components, 1, 1)
    space = Mixture(torch.full((components,), 0.25), torch.zeros(components, dim), factors)
    x = normals(dim, 50_000)
    component = space.component_of(x)
    for chosen in range(components):
        rows = x[component == chosen]
        # 12,500 rows: five standard errors are 0.045 for means and 0.063 for variances.
        assert rows.mean(0).abs().max() < 0.045
        assert (rows.var(0) - 1).abs().max() < 0.065
        # And the distribution function: Kolmogorov's statistic at 1e-4 is 2.2 / sqrt(n).
        uniform = torch.special.ndtr(rows[:, 0]).sort().values
        steps = torch.arange(1, len(rows) + 1) / len(rows)
        assert (uniform - steps).abs().max() < 2.2 / len(rows) ** 0.5


def test_equal_components_make_one_normal():
    space = Mixture(torch.tensor([0.4, 0.6]), torch.zeros(2, 3), torch.eye(3).repeat(2, 1, 1))
    x = normals(3, 100)
    assert torch.equal(space.from_normal(x), x)


def test_a_row_alone_gives_what_it_gives_in_a_batch():
    space, x = mixture(), normals(2, 16)
    torch.testing.assert_close(torch.cat([space.from_normal(row[None]) for row in x]), space.from_normal(x))


def test_one_component_is_an_affine_map():
    factor, mean = torch.tensor([[[2.0, 0.0], [1.0, 3.0]]]), torch.tensor([[5.0, -5.0]])
    x = normals(2, 10)
    torch.testing.assert_close(Mixture(torch.ones(1), mean, factor).from_normal(x), x @ factor[0].T + mean)


def test_the_space_is_flat():
    space, a, b = mixture(), normals(2, 4), normals(2, 4, seed=1)
    assert space.dim == 2
    assert torch.equal(space.project(a), a)
    torch.testing.assert_close(space.interpolate(a, b, 0.25), 0.75 * a + 0.25 * b)
    torch.testing.assert_close(space.distance(a, b), (a - b).norm(dim=1))


def test_fitting_finds_the_mixture_that_codes_were_drawn_from():
    truth = mixture()
    codes = truth.from_normal(normals(2, 20_000))
    found = fit_mixture(codes, 3, reg_covar=1e-6, seed=0)
    order = found.weights.argsort(descending=True)
    torch.testing.assert_close(found.weights[order].float(), truth.weights, atol=0.02, rtol=0)
    torch.testing.assert_close(found.means[order].float(), truth.means, atol=0.1, rtol=0)
    covariances = (found.factors @ found.factors.mT)[order].float()
    torch.testing.assert_close(covariances, truth.factors @ truth.factors.mT, atol=0.15, rtol=0)


def test_fitting_twice_finds_the_same():
    codes = normals(3, 500)
    first, second = fit_mixture(codes, 4, seed=7), fit_mixture(codes, 4, seed=7)
    assert torch.equal(first.means, second.means)
    assert torch.equal(first.factors, second.factors)


def test_the_regulariser_is_on_the_diagonal():
    codes = torch.zeros(20, 3)
    (factor,) = fit_mixture(codes, 1, reg_covar=0.04).factors
    torch.testing.assert_close(factor, 0.2 * torch.eye(3, dtype=torch.float64))


def test_too_few_codes_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match=r"a mixture of 10 components needs .* as many codes, got 4 codes"):
        fit_mixture(normals(2, 4), 10)


def test_codes_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="the model has diverged"):
        fit_mixture(torch.full((20, 2), torch.nan), 2)


def test_weights_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="must be non-negative and add up to 1"):
        Mixture(torch.tensor([0.5, 0.4]), torch.zeros(2, 3), torch.eye(3).repeat(2, 1, 1))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"needs weights \(2,\) and factors \(2, 3, 3\), got \(2,\) and \(2, 2, 2\)"):
        Mixture(torch.tensor([0.5, 0.5]), torch.zeros(2, 3), torch.eye(2).repeat(2, 1, 1))


def test_a_second_stage_pushes_the_normal_distribution_forward():
    x = normals(3, 5)
    assert torch.equal(SecondStage(3, lambda u: 2 * u + 1).from_normal(x), 2 * x + 1)


def test_rescaling_stretches_about_the_centre():
    space = Rescaled(Gaussian(2), torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.5]))
    x = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    torch.testing.assert_close(space.from_normal(x), torch.tensor([[1.0, 2.0], [3.0, 3.0]]))


class OnSphere(AbstractAutoencoder):
    @property
    def latent_space(self) -> Hypersphere:
        return Hypersphere(3)

    @property
    def resolution(self) -> int:
        return 1

    def decode(self, latents: Tensor) -> Tensor:
        return latents[:, :, None, None]

    def encode(self, images: Tensor) -> Tensor:
        return self.latent_space.project(images[:, :, 0, 0])


def test_another_prior_leaves_the_autoencoder_as_it_is():
    model = OnSphere()
    wrapped = WithPrior(model, Gaussian(3))
    images = torch.randn(4, 3, 1, 1)
    torch.testing.assert_close(wrapped.reconstruct(images), model.reconstruct(images))
    assert isinstance(wrapped.latent_space, Gaussian)


def test_samples_of_another_prior_are_decoded_as_points_of_the_models_space():
    decoded = WithPrior(OnSphere(), Gaussian(3)).decode(10 * torch.randn(4, 3))
    torch.testing.assert_close(decoded.flatten(1).norm(dim=1), torch.ones(4))


def test_a_prior_of_another_dimension_is_refused():
    with pytest.raises(ValueError, match="the prior has 2 dimensions, OnSphere has 3"):
        WithPrior(OnSphere(), Gaussian(2))
