from __future__ import annotations

import pytest
import torch

from latent_lab.callbacks.precision import multiplies_bfloat16, resolve_precision, warning_of


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Pretends to be a machine with or without a GPU and with or without bfloat16 on each."""

    def pretend(*, gpu: bool = False, gpu_bf16: bool = False, cpu_bf16: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: gpu_bf16)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu_bf16)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("accelerator", "has", "expected"),
    [
        ("cpu", {}, "32-true"),
        ("cpu", {"cpu_bf16": True}, "bf16-mixed"),
        ("auto", {"cpu_bf16": True}, "bf16-mixed"),
        ("gpu", {"gpu": True, "gpu_bf16": True}, "bf16-mixed"),
        ("auto", {"gpu": True, "gpu_bf16": False, "cpu_bf16": True}, "32-true"),
        ("cpu", {"gpu": True, "gpu_bf16": True}, "32-true"),
        ("auto", {"mps": True, "cpu_bf16": True}, "32-true"),
    ],
)
def test_half_precision_is_chosen_only_where_the_chosen_device_has_it(machine, accelerator, has, expected):
    machine(**has)
    assert resolve_precision(accelerator) == expected


def test_who_asks_for_emulated_bfloat16_is_warned(machine):
    machine()
    assert not multiplies_bfloat16("cpu")
    warning = warning_of("bf16-mixed", "cpu")
    assert warning is not None
    assert "32-true" in warning
    assert warning_of("32-true", "cpu") is None
    machine(cpu_bf16=True)
    assert warning_of("bf16-mixed", "cpu") is None
