from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("command", [["analyze", "ex_post", "--components", "2"], ["test", "--metrics", "fd"]])
def test_analyses_that_need_a_reference_get_the_training_images(latent_lab, checkpoint, folder, command):
    counts = ["--num-samples", "4", "--num-pictures", "2", "--extractor", "random"]
    outcome = latent_lab(*command, "--ckpt", checkpoint, *counts, "--out", "o")
    assert outcome.code == 0, outcome.error
    protocol = json.loads((folder / "o" / "result.json").read_text())["protocol"]
    fitted = protocol["fitted_to"]["data"] if "fitted_to" in protocol else protocol["reference"]
    assert (fitted["split"], protocol["data"]["split"]) == ("train", "test")
