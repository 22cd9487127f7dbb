"""Tables of `make bench` about metrics."""

from __future__ import annotations

from latent_lab.cli.bench_metrics import evaluation_table


def test_a_second_evaluation_is_measured_beside_the_first_and_gives_its_number() -> None:
    head, _, first, second, _, note = evaluation_table(0.0, count=4, resolution=8, extractor="random", repeats=1)
    assert head.startswith("| Fréchet distance, 4 and 4 images of 8 px |")
    assert first.split(" | ")[2] == "1.00"
    assert float(second.split(" | ")[2]) < 1.5
    # Features that are read are those that were computed.
    assert second.split(" | ")[3] == "0e+00 |"
    assert note == "The extractor is random."
