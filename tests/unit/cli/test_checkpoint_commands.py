from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import latent_lab as package
from latent_lab.data import SyntheticFaces
from latent_lab.growth import GrowthSchedule, Stage
from latent_lab.models import GAN, Recoder


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


def test_restore_takes_a_list_of_damages(latent_lab, checkpoint, photos, folder):
    words = ["--images", photos, "--damages", "left,noise:0.1", "--out", "o"]
    outcome = latent_lab("restore", "--ckpt", checkpoint, *words)
    assert outcome.code == 0, outcome.error
    assert "mse_noise_0.1_damaged_input" in outcome.out
    assert (folder / "o" / "restorations.png").is_file()


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
    warning = "fd_random_8 is of 8 images and 16 reference images, no more than the 64 features"
    assert outcome.error.count(f"latent-lab: note: {warning}") == 1
    assert f"- {warning}" in (folder / "o" / "report.md").read_text()


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


def test_an_exported_checkpoint_loads_by_itself_and_is_smaller(latent_lab, checkpoint, folder):
    assert latent_lab("export", checkpoint, "--out", "small.ckpt").code == 0
    ours, theirs = package.load(folder / "small.ckpt"), package.load(checkpoint)
    for name, value in theirs.state_dict().items():
        if name.partition(".")[0] not in theirs.training_only:
            assert torch.equal(ours.state_dict()[name], value), name
    assert (folder / "small.ckpt").stat().st_size < checkpoint.stat().st_size


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_an_export_in_half_precision_is_smaller(latent_lab, checkpoint, folder, ending):
    assert latent_lab("export", checkpoint, "--out", f"whole.{ending}").code == 0
    assert latent_lab("export", checkpoint, "--out", f"half.{ending}", "--half").code == 0
    whole, half = (folder / f"{name}.{ending}" for name in ("whole", "half"))
    # Recipes take as much room in both.
    assert half.stat().st_size < 0.8 * whole.stat().st_size


def test_weights_in_half_precision_load_as_float32_and_decode_alike(latent_lab, checkpoint, folder):
    assert latent_lab("export", checkpoint, "--out", "half.ckpt", "--half").code == 0
    ours, theirs = package.load(folder / "half.ckpt"), package.load(checkpoint)
    for name, value in theirs.state_dict().items():
        if name.partition(".")[0] in theirs.training_only:
            continue
        assert ours.state_dict()[name].dtype == value.dtype
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-3, atol=1e-7)
    latents = theirs.latent_space.sample(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.decode(latents), theirs.decode(latents), rtol=0, atol=0.01)


def test_weights_too_large_for_half_precision_are_refused(latent_lab, checkpoint, folder):
    content = torch.load(checkpoint, weights_only=True)
    name = next(name for name in content["state_dict"] if name.startswith("encoder.") and name.endswith("weight"))
    content["state_dict"][name].view(-1)[0] = 7e4
    torch.save(content, checkpoint)
    outcome = latent_lab("export", checkpoint, "--out", "half.ckpt", "--half")
    assert outcome.code == 2
    assert f"{name} holds numbers beyond 65504" in outcome.error
    assert not (folder / "half.ckpt").exists()


def test_an_exported_checkpoint_names_no_folders_of_the_machine(latent_lab, checkpoint, folder):
    content = torch.load(checkpoint, weights_only=True)
    content["latent_lab"]["data"]["init_args"]["cache_dir"] = "/some/where/cache"
    torch.save(content, checkpoint)
    assert latent_lab("export", checkpoint, "--out", "small.ckpt").code == 0
    kept = torch.load(folder / "small.ckpt", weights_only=True)
    assert kept["latent_lab"]["data"]["init_args"]["cache_dir"] == "cache"


def test_an_exported_checkpoint_is_not_continued(latent_lab, checkpoint):
    assert latent_lab("export", checkpoint, "--out", "small.ckpt").code == 0
    outcome = latent_lab("fit", "--resume", "small.ckpt", "--run-dir", "run")
    assert outcome.code == 2
    assert "small.ckpt holds weights without a state of training, so it cannot be continued" in outcome.error


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
        (["test", "--ckpt", "model.ckpt", "--split", "tets"], "one of train, val, test, unseen_views, got tets"),
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
        (["export", "model.ckpt", "--out", "x.pt"], "--out must end with .safetensors or .ckpt, got x.pt"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(words, sentence, latent_lab, checkpoint, folder):
    (folder / "half.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    outcome = latent_lab(*words)
    assert outcome.code == 2, outcome.error
    assert sentence in outcome.error
    assert outcome.error.startswith("latent-lab: ")
    assert outcome.error.count("\n") == 1


def test_a_split_that_the_data_has_not_is_said_in_one_sentence(latent_lab, checkpoint):
    outcome = latent_lab("reconstruct", "--ckpt", checkpoint, "--split", "unseen_views")
    assert outcome.code == 2
    # The line before it says that the data is packed.
    last = outcome.error.splitlines()[-1]
    assert last.startswith("latent-lab: split 'unseen_views' has no images; found train (16), val (8), test (8)")


@pytest.fixture
def gan_and_recoder(folder):
    """A GAN's and its recoder's checkpoint, both untrained."""

    def save(model, name):
        content = {"state_dict": model.state_dict()}
        model.on_save_checkpoint(content)
        data = SyntheticFaces(num_images=16, num_val=8, num_test=8, resolution=8)
        content["latent_lab"]["data"] = data.recipe
        torch.save(content, folder / name)
        return folder / name

    schedule = GrowthSchedule([Stage(8, 0.064, 8)])
    gan = save(
        GAN(schedule, latent_dim=4, generator_widths=[8], discriminator_widths=[8], start_channels=4), "gan.ckpt"
    )
    return gan, save(Recoder(schedule, str(gan), widths=[8]), "recoder.ckpt")


INVERT = ("--num", "2", "--steps", "3", "--restarts", "1", "--perceptual", "random_l2", "--out", "o")


def test_invert_without_a_recoder_optimises_only_and_says_so(latent_lab, gan_and_recoder, photos, folder):
    outcome = latent_lab("invert", "--ckpt", gan_and_recoder[0], "--images", photos, *INVERT)
    assert outcome.code == 0, outcome.error
    assert "GAN cannot encode: learned and hybrid inversion are left out" in outcome.error
    assert "rec_mse_real_optimised" in outcome.out
    assert (folder / "o" / "inversions.png").is_file()


def test_spaces_of_a_model_that_does_not_encode_are_refused_in_one_sentence(latent_lab, gan_and_recoder):
    outcome = latent_lab("similarity", gan_and_recoder[1], gan_and_recoder[0], "--out", "o")
    assert outcome.code == 2
    assert "gan is a GAN, which does not encode" in outcome.error


def test_invert_with_a_recoder_compares_three_ways(latent_lab, gan_and_recoder, folder):
    gan, recoder = gan_and_recoder
    outcome = latent_lab("invert", "--ckpt", gan, "--recoder", recoder, *INVERT)
    assert outcome.code == 0, outcome.error
    assert "another decoder" not in outcome.error
    result = json.loads((folder / "o" / "result.json").read_text())
    assert {"rec_mse_real_learned", "rec_mse_real_optimised", "rec_mse_real_hybrid"} <= set(result["numbers"])
    assert result["protocol"]["encoder"]["file"] == "recoder.ckpt"
    assert str(folder) not in json.dumps(result["protocol"]["encoder"])


def test_invert_of_a_recoders_checkpoint_needs_no_other(latent_lab, gan_and_recoder, folder):
    assert latent_lab("invert", "--ckpt", gan_and_recoder[1], *INVERT).code == 0
    assert "rec_mse_real_hybrid" in (folder / "o" / "result.json").read_text()


def test_an_encoder_of_another_space_is_refused_in_one_sentence(latent_lab, gan_and_recoder, checkpoint):
    outcome = latent_lab("invert", "--ckpt", checkpoint, "--recoder", gan_and_recoder[1], *INVERT)
    assert outcome.code == 2
    assert "is for 8 px and Gaussian(4), the model has 8 px and Hypersphere(8)" in outcome.error


def test_a_model_that_does_not_encode_is_no_recoder(latent_lab, gan_and_recoder):
    outcome = latent_lab("invert", "--ckpt", gan_and_recoder[0], "--recoder", gan_and_recoder[0], *INVERT)
    assert outcome.code == 2
    assert "gan.ckpt holds a GAN, which does not encode: name a recoder's checkpoint" in outcome.error


def test_a_recoder_of_other_weights_is_said(latent_lab, gan_and_recoder):
    gan, recoder = gan_and_recoder
    content = torch.load(gan, weights_only=True)
    content["state_dict"]["generator.dense.weight"] *= 2
    torch.save(content, gan)
    outcome = latent_lab("invert", "--ckpt", gan, "--recoder", recoder, *INVERT)
    assert outcome.code == 0
    assert "recoder.ckpt was trained for other weights than these" in outcome.error


def test_an_exported_checkpoint_has_no_room_for_what_only_training_needs(latent_lab, gan_and_recoder, folder):
    gan, _ = gan_and_recoder
    assert latent_lab("export", gan, "--out", "small.ckpt").code == 0
    whole, small = package.load(gan), package.load(folder / "small.ckpt")
    bytes_of_decoding = 4 * sum(value.numel() for value in whole.generator.state_dict().values())
    assert (folder / "small.ckpt").stat().st_size < bytes_of_decoding + 40_000
    assert all(value.isnan().all() for value in small.discriminator.parameters())
    latents = whole.latent_space.sample(2, torch.Generator().manual_seed(0))
    assert torch.equal(small.decode(latents), whole.decode(latents))


@pytest.mark.parametrize("half", [[], ["--half"]])
def test_an_exported_gan_is_still_its_recoders(latent_lab, gan_and_recoder, half):
    gan, recoder = gan_and_recoder
    assert latent_lab("export", gan, "--out", "small.ckpt", *half).code == 0
    outcome = latent_lab("invert", "--ckpt", "small.ckpt", "--recoder", recoder, *INVERT)
    assert outcome.code == 0, outcome.error
    assert "was trained for other weights" not in outcome.error


def test_a_recoder_is_exported_without_its_decoders_discriminator(latent_lab, gan_and_recoder, folder):
    _, recoder = gan_and_recoder
    content = torch.load(recoder, weights_only=True)
    content["state_dict"]["decoder.discriminator.dense.weight"].fill_(7e4)
    torch.save(content, recoder)
    assert latent_lab("export", recoder, "--out", "small.ckpt", "--half").code == 0
    small = package.load(folder / "small.ckpt")
    assert all(value.isnan().all() for value in small.decoder.discriminator.parameters())
    images = package.load(recoder).decode(small.latent_space.sample(2, torch.Generator().manual_seed(0)))
    assert small.encode(images).isfinite().all()


def test_an_export_over_the_checkpoint_itself_is_refused(latent_lab, checkpoint):
    before = checkpoint.read_bytes()
    outcome = latent_lab("export", checkpoint, "--out", checkpoint)
    assert outcome.code == 2
    assert "is the checkpoint itself, which could not be continued then" in outcome.error
    assert checkpoint.read_bytes() == before


def test_a_network_with_an_average_is_exported_as_the_average(latent_lab, checkpoint, folder):
    assert latent_lab("export", checkpoint, "--out", "small.ckpt").code == 0
    content = torch.load(folder / "small.ckpt", weights_only=True)["state_dict"]
    averaged = [name for name in content if name.startswith("generator_average.network.")]
    assert averaged
    for name in averaged:
        # Not only equal, but the same memory: it is in the file once.
        trained = content[name.replace("generator_average.network.", "generator.")]
        assert trained.data_ptr() == content[name].data_ptr()


def test_export_leaves_out_what_only_training_needs(latent_lab, gan_and_recoder, folder):
    gan, recoder = gan_and_recoder
    assert latent_lab("export", gan, "--out", "gan.safetensors").code == 0
    assert {name.partition(".")[0] for name in load_file(folder / "gan.safetensors")} == {"generator"}
    assert latent_lab("export", recoder, "--out", "recoder.safetensors").code == 0
    assert {name.partition(".")[0] for name in load_file(folder / "recoder.safetensors")} == {"decoder", "encoder"}
