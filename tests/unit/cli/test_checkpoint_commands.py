from __future__ import annotations

import json

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

import latent_lab as package


def test_sample_needs_nothing_but_the_checkpoint(latent_lab, checkpoint, folder):
    outcome = latent_lab("sample", "--ckpt", checkpoint, "--num", "4", "--columns", "2", "--out", "o")
    assert outcome.code == 0, outcome.error
    result = json.loads((folder / "o" / "result.json").read_text())
    assert result["protocol"]["num"] == 4
    assert (folder / "o" / "samples.png").is_file()


def test_a_result_says_which_checkpoint_it_belongs_to_without_a_path(latent_lab, checkpoint, folder):
    latent_lab("sample", "--ckpt", checkpoint, "--num", "2", "--out", "o")
    kept = json.loads((folder / "o" / "result.json").read_text())["protocol"]["checkpoint"]
    assert (kept["file"], kept["images_seen"]) == ("model.ckpt", 64)
    assert len(kept["sha256"]) == 64


def test_results_go_beside_the_run_that_they_belong_to(latent_lab, checkpoint, folder):
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "config.yaml").touch()
    checkpoint.replace(folder / "run" / "checkpoints" / "last.ckpt")
    latent_lab("sample", "--ckpt", "run/checkpoints/last.ckpt", "--num", "2")
    assert (folder / "run" / "sample-0.064k" / "samples.png").is_file()


def test_results_of_a_lone_checkpoint_go_to_results(latent_lab, checkpoint, folder):
    latent_lab("sample", "--ckpt", checkpoint, "--num", "2")
    assert (folder / "results" / "model-sample" / "samples.png").is_file()


def test_reconstruct_takes_the_data_of_the_checkpoint(latent_lab, checkpoint, folder):
    outcome = latent_lab("reconstruct", "--ckpt", checkpoint, "--num", "4", "--out", "o")
    assert outcome.code == 0, outcome.error
    assert json.loads((folder / "o" / "result.json").read_text())["protocol"]["data"]["split"] == "test"


def test_reconstruct_takes_ones_own_images_and_names_those_it_cannot_read(latent_lab, checkpoint, photos, folder):
    outcome = latent_lab("reconstruct", "--ckpt", checkpoint, "--images", photos, "--out", "o")
    assert outcome.code == 0, outcome.error
    assert "skipped d.png" in outcome.error
    assert json.loads((folder / "o" / "result.json").read_text())["protocol"]["data"]["num_images"] == 3


def test_reconstruct_takes_a_single_image(latent_lab, checkpoint, photos):
    assert latent_lab("reconstruct", "--ckpt", checkpoint, "--images", photos / "a.png", "--out", "o").code == 0


def test_interpolate_is_between_samples_unless_images_are_given(latent_lab, checkpoint, photos, folder):
    latent_lab("interpolate", "--ckpt", checkpoint, "--pairs", "1", "--out", "samples")
    latent_lab("interpolate", "--ckpt", checkpoint, "--pairs", "1", "--images", photos, "--out", "images")
    samples, images = (json.loads((folder / name / "result.json").read_text()) for name in ("samples", "images"))
    assert "data" not in samples["protocol"]
    assert images["protocol"]["data"]["num_images"] == 3


def test_analyze_runs_the_analysis_that_is_named(latent_lab, checkpoint, folder):
    assert latent_lab("analyze", "sample", "--ckpt", checkpoint, "--num", "2", "--out", "o").code == 0
    assert (folder / "o" / "samples.png").is_file()


def test_test_compares_samples_with_training_images(latent_lab, checkpoint, folder):
    words = ["--extractor", "random", "--metrics", "fd,rmse", "--num-samples", "8", "--out", "o"]
    outcome = latent_lab("test", "--ckpt", checkpoint, *words)
    assert outcome.code == 0, outcome.error
    protocol = json.loads((folder / "o" / "result.json").read_text())["protocol"]
    assert (protocol["data"]["split"], protocol["reference"]["split"]) == ("test", "train")
    assert "fd_random_8" in outcome.out
    assert (folder / "o" / "report.md").is_file()


def test_validate_reads_the_validation_split_with_small_samples(latent_lab, checkpoint, folder):
    words = ["--extractor", "random", "--metrics", "rmse", "--out", "o"]
    assert latent_lab("validate", "--ckpt", checkpoint, *words).code == 0
    protocol = json.loads((folder / "o" / "result.json").read_text())["protocol"]
    assert protocol["data"]["split"] == "val"
    assert protocol["options"]["num_samples"] == 1000


def test_what_is_changed_over_the_checkpoint_is_printed(latent_lab, checkpoint):
    words = ["--num", "2", "--data.num_test", "9", "--model.weights.latent", "5", "--out", "o"]
    outcome = latent_lab("reconstruct", "--ckpt", checkpoint, *words)
    assert "changed: model.weights.latent: 5.0, was 100.0" in outcome.error
    assert "changed: data.num_test: 9, was 8" in outcome.error


def test_predict_writes_a_code_for_every_image(latent_lab, checkpoint, folder):
    outcome = latent_lab("predict", "--ckpt", checkpoint, "--out", "o")
    assert outcome.code == 0, outcome.error
    codes = load_file(folder / "o" / "codes.safetensors")
    assert codes["index"].tolist() == list(range(8))
    assert codes["latents"].shape == (8, 8)
    assert len(list((folder / "o" / "reconstructions").glob("*.png"))) == 8


def test_export_writes_what_decode_and_encode_use_with_the_recipe(latent_lab, checkpoint, folder):
    assert latent_lab("export", checkpoint, "--out", "x.safetensors").code == 0
    with safe_open(folder / "x.safetensors", "pt") as file:
        facts, names = file.metadata(), set(file.keys())
    assert json.loads(facts["model"]) == package.load(checkpoint).recipe
    assert {name.split(".")[0] for name in names} == {"generator", "encoder"}


def test_prepare_packs_a_folder_and_says_how_to_use_it(latent_lab, photos, folder):
    words = ["--resolution", "8", "--max-bad-share", "0.5"]
    outcome = latent_lab("prepare", photos, "--out", "packed", *words)
    assert outcome.code == 0, outcome.error
    assert "use it with --data.root packed" in outcome.out
    assert (folder / "packed" / "report.txt").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sample"], "sample needs --ckpt FILE"),
        (["sample", "--ckpt", "nowhere.ckpt"], "no checkpoint at nowhere.ckpt"),
        (["sample", "model.ckpt"], "sample takes no bare word, got model.ckpt: write --ckpt model.ckpt"),
        (["sample", "--ckpt", "half.ckpt"], "half.ckpt is damaged or only half written"),
        (["sample", "--ckpt", "model.ckpt", "--num", "x"], "--num must be a whole number, got x"),
        (["sample", "--ckpt", "model.ckpt", "--num", "0"], "sample needs num of at least 1, got 0"),
        (["sample", "--ckpt", "model.ckpt", "--nmu", "1"], "sample has no option --nmu: did you mean --num?"),
        (["sample", "--ckpt", "model.ckpt", "--devices", "0"], "--devices must be a positive whole number, got 0"),
        (["sample", "--ckpt", "model.ckpt", "--accelerator", "x"], "--accelerator must be one of auto, cpu"),
        (["sample", "--ckpt", "model.ckpt", "--trainer.devices", "2"], "sample has no option --trainer.devices"),
        (["test", "--ckpt", "model.ckpt", "--split", "tets"], "--split must be one of train, val, test, got tets"),
        (["test", "--ckpt", "model.ckpt", "--model.latent_dim", "9"], "(model.latent_dim: 9, was 8)"),
        (["test", "--ckpt", "model.ckpt", "--data", "Fodler"], "there is no data set Fodler"),
        (["reconstruct", "--ckpt", "model.ckpt", "--images", "nowhere"], "'nowhere' does not exist"),
        (["analyze", "smaple", "--ckpt", "model.ckpt"], "there is no analysis smaple: did you mean sample?"),
        (["analyze", "--ckpt", "model.ckpt"], "analyze needs the NAME of an analysis"),
        (["help", "Pionere"], "there is no help on Pionere: did you mean Pioneer?"),
        (["prepare", "nowhere", "--out", "o"], "'nowhere' does not exist"),
        (["prepare", "--out", "o"], "prepare takes one SOURCE, got 0"),
        (["prepare", "nowhere"], "prepare needs --out DIR"),
        (["export", "model.ckpt"], "export takes one checkpoint and --out"),
        (["export", "model.ckpt", "--out", "x.pt"], "--out must end with .safetensors, got x.pt"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(words, sentence, latent_lab, checkpoint, folder):
    (folder / "half.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    outcome = latent_lab(*words)
    assert outcome.code == 2, outcome.error
    assert sentence in outcome.error
    assert outcome.error.startswith("latent-lab: ")
    assert outcome.error.count("\n") == 1
