"""The adversarial objective with logits: binary cross-entropy, noisy labels, either convention (Tonelli 2022).

With t the target and p = sigmoid(logit), the cross-entropy is -t ln p - (1 - t) ln(1 - p), in nats.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from latent_lab.types import Scalar, Scores

LabelConvention = Literal["real_is_one", "fake_is_one"]
"""Which class the discriminator's output is the probability of. The published program trains P(fake), although its text
says P(real); both are the same game."""

LARGEST_LOGIT = math.log((1 - 1e-7) / 1e-7)
"""16.1: Keras, in which the original was written, clips probabilities to [1e-7, 1 - 1e-7] in its cross-entropy."""


def class_label(*, real: bool, convention: LabelConvention) -> float:
    """The target of real or of generated images, 0 or 1.

    Raises:
        ValueError: for an unknown convention.
    """
    if convention not in ("real_is_one", "fake_is_one"):
        raise ValueError(f"label_convention must be real_is_one or fake_is_one, got {convention!r}")
    return float(real == (convention == "real_is_one"))


def noisy_labels(label: float, uniform: Scores, noise: float = 0.05) -> Scores:
    """Label + noise * U(0, 1), as published for all labels: targets in [0, noise] and [1, 1 + noise].

    Args:
        label: 0 or 1.
        uniform: (N,) numbers uniform on [0, 1).
        noise: largest addition.
    """
    return label + noise * uniform


def discriminator_loss(fake_logits: Scores, real_logits: Scores, fake_targets: Scores, real_targets: Scores) -> Scalar:
    """Mean cross-entropy over the 2 N generated and real images.

    A target above 1 has no minimum at a finite logit, so the logits of the class of targets 1 count up to
    `LARGEST_LOGIT`; beyond it they have no gradient, as in the published loss.

    Args:
        fake_logits: (N,) of generated images.
        real_logits: (N,) of real images.
        fake_targets: (N,), see `noisy_labels`.
        real_targets: (N,).
    """
    logits, targets = torch.cat([fake_logits, real_logits]), torch.cat([fake_targets, real_targets])
    bounded = torch.where(targets >= 1, logits.clamp_max(LARGEST_LOGIT), logits)
    return F.binary_cross_entropy_with_logits(bounded, targets)


def generator_loss(fake_logits: Scores, convention: LabelConvention = "real_is_one") -> Scalar:
    """Mean cross-entropy of generated images with the label of real ones: -ln P(real), the non-saturating form
    (Goodfellow et al. 2014, section 3), whatever the thesis's min-max notation suggests.

    Unlike the published loss it has a gradient also where the discriminator is surer than 1e-7.

    Args:
        fake_logits: (N,) of generated images.
        convention: of the discriminator.
    """
    label = class_label(real=True, convention=convention)
    return F.binary_cross_entropy_with_logits(fake_logits, torch.full_like(fake_logits, label))


def judged_real(logits: Scores, convention: LabelConvention = "real_is_one") -> Bool[Tensor, "N"]:
    """Whether the discriminator takes an image for real: P(real) above 1/2."""
    return logits > 0 if class_label(real=True, convention=convention) == 1 else logits < 0
