"""`trainer.precision: auto`: bfloat16 where the device has arithmetic for it, else float32."""

from __future__ import annotations

import torch

AUTO = "auto"
HALF = "bf16-mixed"
SINGLE = "32-true"


def resolve_precision(accelerator: str) -> str:
    """The precision that `auto` stands for on this machine.

    bfloat16 pays only where the arithmetic units know it. Elsewhere it is emulated: on a processor with AVX2 alone,
    training convolutions was measured to be some twenty times slower than in float32.

    Args:
        accelerator: as Lightning's Trainer takes it: auto, cpu, gpu, cuda, mps ...

    Returns:
        "bf16-mixed" or "32-true".
    """
    return HALF if multiplies_bfloat16(accelerator) else SINGLE


def multiplies_bfloat16(accelerator: str) -> bool:
    """Whether the device that `accelerator` will choose has arithmetic of its own for bfloat16."""
    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def warning_of(precision: object, accelerator: str) -> str | None:
    """One sentence where a chosen half precision would be emulated, else None."""
    if not str(precision).startswith("bf16") or multiplies_bfloat16(accelerator) or accelerator not in ("auto", "cpu"):
        return None
    return (
        f"this machine emulates bfloat16, so --trainer.precision {precision} may be many times slower than {SINGLE}: "
        f"{AUTO} chooses by the device"
    )
