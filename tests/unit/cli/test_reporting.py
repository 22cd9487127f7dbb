"""`latent-lab report`, and `latent-lab compare` of what it writes."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from latent_lab import images
from latent_lab.analyses import Result
from latent_lab.cli import main
from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import GAN, GammaVAE, Pioneer
from latent_lab.networks.pretrained import sha256_of

QUICK = ("--num", "24", "--num-reference", "16", "--num-resamples", "4", "--num-pictures", "3")
FACES = SyntheticFaces(num_images=16, num_val=8, num_test=24, resolution=8)


def saved(path: Path, model: torch.nn.Module, data: SyntheticFaces | None = FACES, kimg: float = 0.064) -> Path:
    """An untrained model that looks like the end of a run."""
    model.advance(round(1000 * kimg))
    content: dict[str, object] = {"state_dict": model.state_dict(), "optimizer_states": []}
    model.on_save_checkpoint(content)
    content["latent_lab"]["data"] = None if data is None else data.recipe
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def pioneer(seed: int = 0) -> Pioneer:
    return Pioneer(GrowthSchedule([Stage(8, 0.064, 8)]), latent_dim=8, widths=[8, 8], seed=seed)


def gan() -> GAN:
    schedule = GrowthSchedule([Stage(8, 0.064, 8)])
    return GAN(schedule, latent_dim=4, generator_widths=[4], discriminator_widths=[4])


def run_of(folder: Path, seed: int = 0, model: torch.nn.Module | None = None) -> Path:
    """A folder as `fit` leaves it, with a result of `test`."""
    checkpoint = saved(folder / "checkpoints" / "last.ckpt", model or pioneer(seed))
    (folder / "config.yaml").write_text("run: {record_kimg: 0.016}\ntrainer: {devices: 1}\n", encoding="utf-8")
    (folder / "environment.txt").write_text("torch: 9.9.9\n", encoding="utf-8")
    records = [
        {"images": 32 * i, "kimg": 0.032 * i, "train/encoder/kl_real": 1.0 / i, "val/rec_mse": 0.5 / i} for i in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    (folder / "pictures").mkdir()
    rng = torch.Generator().manual_seed(seed)
    for resolution, kimg in ((4, 0.0), (8, 0.1)):
        sheet = images.make_grid(2 * torch.rand(4, 3, resolution, resolution, generator=rng) - 1, 2)
        sheet = images.enlarge(sheet, 64 // resolution)
        images.save_png(folder / "pictures" / f"samples-{kimg:08.1f}k.png", sheet)
        figure = 2 * torch.rand(1, 3, 50, 70, generator=rng) - 1
        images.save_png(folder / "pictures" / f"kl_of_latents-{kimg:08.1f}k.png", figure)
    measured(folder / "test-0.064k", checkpoint, 20.0 + seed)
    return folder


def measured(folder: Path, checkpoint: Path, value: float) -> None:
    protocol = {
        "model": "Pioneer",
        "num_samples": 1000,
        "num_reference": 16,
        "seed": 0,
        "extractor": {"name": "random", "resize": "clean to 299x299"},
        "data": {"split": "test", "hash": "abc"},
        "checkpoint": {"sha256": sha256_of(checkpoint), "images_seen": 64},
        "intervals": {"level": 0.95, "num_resamples": 7},
    }
    intervals = {"fd_random_clean_1k": (value - 1, value + 1)}
    Result("evaluate", {"fd_random_clean_1k": value, "rec_mse": 0.25}, protocol, intervals=intervals).save(folder)


class Parser(HTMLParser):
    """Counts what opens and closes, and keeps what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in _WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag in _WITHOUT_END or self.open.pop() == tag


_WITHOUT_END = ("img", "meta", "br", "hr")


def parsed(page: Path) -> Parser:
    """The page, whose tags are closed in order and which needs no other file."""
    parser = Parser()
    parser.feed(page.read_text(encoding="utf-8"))
    assert parser.open == []
    for source in parser.sources:
        kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", source).groups()
        assert Image.open(io.BytesIO(base64.b64decode(content))).format == kind.upper()
    return parser


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/a and runs/b, each with a report in it; tests only read it."""
    root = tmp_path_factory.mktemp("reports")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("LATENT_LAB_CACHE", str(root / "cache"))
        for seed, name in enumerate("ab"):
            run_of(root / "runs" / name, seed)
            assert main(["report", f"runs/{name}", *QUICK]) == 0
    return root


@pytest.fixture
def reported(runs: Path) -> Path:
    """The report of a run, in the run's folder."""
    return runs / "runs" / "a" / "report-0.064k"


def test_a_report_of_a_run_shows_all_parts(reported: Path):
    text = (reported / "report.md").read_text()
    parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert parts == [
        "Samples",
        "Reconstructions",
        "Numbers",
        "Training",
        "Health of the latent space",
        "Nearest training images",
        "Data",
        "Configuration",
        "Versions",
        "Protocols",
    ]
    assert text.startswith("# a\n")
    # Numbers that were measured before, with their interval and how they were measured.
    assert (
        "Of `test-0.064k`: 1,000 samples, 16 reference images, split test, extractor random (clean to 299x299), seed 0."
        in text
    )
    assert "| `fd_random_clean_1k` | 20 [19, 21] |" in text
    assert "bootstrap intervals at level 0.95, from 7 resamples" in text
    # Training: a curve of the model, and one of an analysis.
    assert "| `val/rec_mse` | 0.5 | 0.032 | 0.25 | 0.064 |" in text
    assert (reported / "curves_1.png").is_file()
    assert "record_kimg: 0.016" in text
    assert "torch: 9.9.9" in text
    for number in ("kl_gap_24", "i_mse_24", "rec_mse", "closer_pixels_256_of_16", "closer_codes_256_of_16"):
        assert f"| `{number}` |" in text
    recipe = FACES.recipe["class_path"]
    assert f"class_path: {recipe}" in text
    hashes = re.findall(r"^\| (?:training|held-out) images \| \d+ \| (?:train|test) \| ([0-9a-f]{16}) \|$", text, re.M)
    assert len(set(hashes)) == 2
    assert "is left out" not in text


def test_the_page_needs_no_other_file_and_its_twin_links_to_files_that_are_there(reported: Path):
    pictures = re.findall(r"\]\((.+\.png)\)", (reported / "report.md").read_text())
    assert len(pictures) == len(set(pictures)) >= 9
    assert all((reported / picture).is_file() for picture in pictures)
    page = parsed(reported / "report.html")
    assert len(page.sources) == len(pictures)
    assert (reported / "report.html").stat().st_size < 5e6


def test_grids_are_shown_over_time_and_other_figures_at_their_latest(reported: Path):
    text = (reported / "report.md").read_text()
    assert "### samples over time" in text
    assert "### kl_of_latents at 0.1 kimg" in text
    sheet = images.load_png(reported / "samples_over_time.png")
    # Two moments, two images of 64 px in a row, and names to their left.
    assert sheet.shape[2] == 2 * 68
    assert sheet.shape[3] > 2 * 66 + 2
    latest = images.load_png(reported.parent / "pictures" / "kl_of_latents-000000.1k.png")
    assert torch.equal(images.load_png(reported / "kl_of_latents_latest.png"), latest)


def test_a_checkpoint_without_a_run_and_without_numbers_says_what_is_missing(latent_lab, folder: Path):
    saved(folder / "model.ckpt", gan())
    outcome = latent_lab("report", "model.ckpt", "--out", "page", *QUICK)
    assert outcome.code == 0, outcome.error
    text = (folder / "page" / "report.md").read_text()
    assert "`model.ckpt` lies in no folder of a run, so there are no curves" in text
    assert "Nothing was measured of this checkpoint yet: `latent-lab test --ckpt model.ckpt` does" in text
    parsed(folder / "page" / "report.html")


def test_a_model_without_an_encoder_gets_what_applies(latent_lab, folder: Path):
    saved(folder / "gan.ckpt", gan())
    outcome = latent_lab("report", "gan.ckpt", "--out", "page", *QUICK)
    assert outcome.code == 0, outcome.error
    line = "Health of the latent space is left out: GAN has no encoder"
    assert line in outcome.error
    text = (folder / "page" / "report.md").read_text()
    assert line in text
    assert "## Reconstructions" not in text
    assert "| `closer_pixels_256_of_16` |" in text
    assert "closer_codes" not in text
    assert json.loads((folder / "page" / "result.json").read_text())["protocol"]["missing"].keys() == {
        "Health of the latent space"
    }


def test_a_variational_autoencoder_gets_its_posterior(latent_lab, folder: Path):
    schedule = GrowthSchedule([Stage(8, 0.064, 8)])
    saved(folder / "vae.ckpt", GammaVAE(schedule, latent_dim=4, encoder_widths=[8, 8], decoder_widths=[8, 8, 8]))
    assert latent_lab("report", "vae.ckpt", "--out", "page", *QUICK).code == 0
    text = (folder / "page" / "report.md").read_text()
    assert "### What does the posterior use?" in text
    assert "| `latents_active` |" in text
    assert "](latent-health/posterior/kl_of_latents.png)" in text


def test_data_that_is_not_there_is_explained(latent_lab, folder: Path):
    saved(folder / "model.ckpt", pioneer(), data=None)
    outcome = latent_lab("report", "model.ckpt", "--out", "page", *QUICK)
    assert outcome.code == 0, outcome.error
    text = (folder / "page" / "report.md").read_text()
    for part in ("Health of the latent space", "Nearest training images"):
        assert f"{part} is left out, as it needs" in text
    assert "does not say what it was trained on" in text
    assert "--data.root PATH" in text


def test_own_images_are_enough_for_the_health_of_latents(latent_lab, folder: Path, photos: Path):
    saved(folder / "model.ckpt", pioneer(), data=None)
    for number in range(30):
        pixels = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(number))
        Image.fromarray(pixels.numpy()).save(photos / f"more_{number}.png")
    outcome = latent_lab("report", "model.ckpt", "--images", "photos", "--out", "page", *QUICK)
    assert outcome.code == 0, outcome.error
    text = (folder / "page" / "report.md").read_text()
    assert "| `kl_gap_24` |" in text
    assert "Nearest training images is left out, as it needs training images" in text


def test_too_few_images_leave_one_part_out(latent_lab, checkpoint, folder: Path):
    outcome = latent_lab("report", "model.ckpt", "--out", "page", *QUICK)
    assert outcome.code == 0, outcome.error
    assert "note: Health of the latent space is left out: normality needs at least 21 images, got 8" in outcome.error


def test_results_of_another_state_are_called_so(latent_lab, folder: Path):
    run = run_of(folder / "runs" / "a", model=gan())
    measured(run / "test-0.032k", saved(folder / "other.ckpt", pioneer(3)), 33.0)
    (run / "test-0.064k" / "result.json").unlink()
    assert latent_lab("report", "runs/a", "--out", "page", *QUICK).code == 0
    assert "Of `test-0.032k`, **not of this checkpoint**: Pioneer" in (folder / "page" / "report.md").read_text()


def test_a_quick_test_is_made_if_it_is_asked_for(latent_lab, folder: Path, monkeypatch):
    seen = {}

    def quick(self: object, model: object, source: object) -> Result:
        seen.update(extractor=self.extractor, split=source.recipe["split"])
        return Result("evaluate", {"fd_random_clean_1k": 12.5}, {"num_samples": 1000})

    monkeypatch.setattr("latent_lab.cli.reporting.QuickEvaluation.__call__", quick)
    saved(folder / "gan.ckpt", gan())
    outcome = latent_lab("report", "gan.ckpt", "--out", "page", "--quick-test", "--extractor", "random", *QUICK)
    assert outcome.code == 0, outcome.error
    assert seen == {"extractor": "random", "split": "test"}
    text = (folder / "page" / "report.md").read_text()
    assert "Quick test: 1,000 samples." in text
    assert "| `fd_random_clean_1k` | 12.5 |" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "report takes one run or checkpoint, got 0"),
        (["a", "b"], "report takes one run or checkpoint, got 2"),
        (["empty"], "empty is no folder of a run, which has a config.yaml and checkpoints"),
        (["begun"], "begun holds no checkpoint yet: train with `latent-lab fit --run-dir begun --resume auto`"),
        (["nowhere.ckpt"], "no checkpoint at nowhere.ckpt"),
        (["model.ckpt", "--num", "5"], "num of at least 21 images, got 5"),
        (["model.ckpt", "--split", "tset"], "--split must be one of"),
    ],
)
def test_mistakes_get_one_sentence(latent_lab, checkpoint, folder: Path, words, message):
    (folder / "empty").mkdir()
    (folder / "begun").mkdir()
    (folder / "begun" / "config.yaml").touch()
    outcome = latent_lab("report", *words)
    assert outcome.code == 2
    assert message in outcome.error
    assert outcome.error.count("\n") == 1


# ------------------------------------------------------------------------------------------------------------- compare


@pytest.fixture
def two(runs: Path, folder: Path) -> Path:
    """A working folder with copies of both runs."""
    shutil.copytree(runs / "runs", folder / "runs")
    return folder


def test_reports_stand_side_by_side_with_their_pictures(latent_lab, two: Path):
    outcome = latent_lab("compare", "runs/a", "runs/b/report-0.064k", "--out", "both.html")
    assert outcome.code == 0, outcome.error
    lines = outcome.out.splitlines()
    assert lines[:2] == ["Numbers", ""]
    assert lines[2].split() == ["number", "a", "b"]
    assert lines[4].split() == ["fd_random_clean_1k", "20", "[19,", "21]*", "21", "[20,", "22]"]
    assert any(line.startswith("kl_gap_24 ") for line in lines)
    page = (two / "both.html").read_text()
    assert "<strong>20 [19, 21]</strong>" in page
    assert "<h2>Health of the latent space</h2>" in page
    assert page.index("<h3>Samples</h3>") < page.index("<h3>Reconstructions</h3>") < page.index("<h3>curves_1</h3>")
    sources = parsed(two / "both.html").sources
    assert len(sources) % 2 == 0
    assert len(sources) >= 2 * 6


def test_the_markdown_page_links_to_the_pictures_from_where_it_is(latent_lab, two: Path):
    assert latent_lab("compare", "runs/a", "runs/b", "--out", "pages/both.md").code == 0
    text = (two / "pages" / "both.md").read_text()
    links = re.findall(r"\]\(<(.+?\.png)>\)", text)
    assert "../runs/a/report-0.064k/sample/samples.png" in links
    assert all((two / "pages" / link).is_file() for link in links)


def test_numbers_of_parts_go_to_a_long_table(latent_lab, two: Path):
    assert latent_lab("compare", "runs/a", "runs/b", "--out", "both.csv", "--numbers", "fd").code == 0
    rows = list(csv.DictReader((two / "both.csv").open()))
    assert [list(row.values()) for row in rows] == [
        ["Numbers", "fd_random_clean_1k", "a", "20.0", "19.0", "21.0"],
        ["Numbers", "fd_random_clean_1k", "b", "21.0", "20.0", "22.0"],
    ]


def test_other_protocols_are_not_mixed(latent_lab, two: Path):
    shutil.copytree(two / "runs" / "b" / "report-0.064k", two / "other")
    file = two / "other" / "latent-health" / "result.json"
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 5'))
    outcome = latent_lab("compare", "runs/a", "other", "--numbers", "kl_gap")
    assert "kl_gap_24 [a]" in outcome.out
    assert "options.seed: 0 | 5" in outcome.out
    strict = latent_lab("compare", "runs/a", "other", "--numbers", "kl_gap", "--strict")
    assert strict.code == 2
    assert "kl_gap_24: a and other differ in" in strict.error


def test_runs_without_reports_show_what_test_measured(latent_lab, folder: Path):
    for seed, name in enumerate("ab"):
        run_of(folder / "runs" / name, seed)
    outcome = latent_lab("compare", "runs/a", "runs/b")
    assert outcome.code == 0, outcome.error
    assert "fd_random_clean_1k" in outcome.out


def test_a_run_with_nothing_to_compare_says_how_to_get_it(latent_lab, folder: Path):
    run_of(folder / "runs" / "a")
    run = run_of(folder / "runs" / "b")
    (run / "test-0.064k" / "result.json").unlink()
    outcome = latent_lab("compare", "runs/a", "runs/b")
    assert outcome.code == 2
    assert (
        "runs/b holds neither a report nor a result of `latent-lab test`: make one with latent-lab report runs/b"
        in (outcome.error)
    )


def test_pictures_of_plain_results_stand_below_their_table(latent_lab, folder: Path):
    for name, grey in (("a", -1.0), ("b", 1.0)):
        sheet = torch.full((1, 3, 8, 8), grey)
        Result("evaluate", {"rec_mse": 1.0 + grey / 2}, {"model": name}, {"samples": sheet}).save(folder / name)
    assert latent_lab("compare", "a", "b", "--out", "both.html").code == 0
    page = (folder / "both.html").read_text()
    assert "<strong>0.5</strong>" in page
    assert len(parsed(folder / "both.html").sources) == 2
