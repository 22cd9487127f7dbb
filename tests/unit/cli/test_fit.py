from __future__ import annotations

import pytest
import torch
import yaml

from latent_lab.cli.errors import InputError
from latent_lab.cli.recipes import compose, model_classes
from latent_lab.cli.training import find_start, schedule_table
from latent_lab.growth import GrowthSchedule, Stage


def printed_configuration(latent_lab, *words):
    outcome = latent_lab("fit", "--dry-run", *words)
    assert outcome.code == 0, outcome.error
    return yaml.safe_load(outcome.out.split("\n\n")[0])


# ------------------------------------------------------------------------------------------------------ what counts


def test_a_dry_run_prints_everything_and_writes_nothing(latent_lab, tiny, folder):
    outcome = latent_lab("fit", "--config", "tiny", "--dry-run")
    assert outcome.code == 0
    assert "kimg  pixels  batch   rate  margin" in outcome.out
    assert "normalisation: spectral" in outcome.out
    assert [path.name for path in folder.iterdir()] == ["tiny.yaml"]


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_automatic_precision_is_recorded_as_what_it_became(latent_lab, tiny, monkeypatch, has_it, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    words = ("--trainer.precision", "auto", "--trainer.accelerator", "cpu")
    assert printed_configuration(latent_lab, "--config", "tiny", *words)["trainer"]["precision"] == expected


def test_the_printed_configuration_alone_gives_itself(latent_lab, tiny, folder):
    whole = printed_configuration(latent_lab, "--config", "tiny")
    (folder / "whole.yaml").write_text(yaml.safe_dump(whole))
    assert printed_configuration(latent_lab, "--config", "whole") == whole


def test_a_later_configuration_wins_over_an_earlier_one(latent_lab, tiny, folder):
    (folder / "piece.yaml").write_text("model: {init_args: {latent_dim: 16, weights: {latent: 5}}}\n")
    model = printed_configuration(latent_lab, "--config", "tiny", "--config", "piece")["model"]["init_args"]
    assert (model["latent_dim"], model["widths"], model["weights"]["latent"]) == (16, [8, 8], 5.0)
    assert model["weights"]["image"] == 1.0


def test_the_command_line_wins_over_every_configuration(latent_lab, tiny, folder):
    (folder / "piece.yaml").write_text("model: {init_args: {latent_dim: 16}}\n")
    words = ("--model.latent_dim", "4", "--config", "tiny", "--config", "piece")
    assert printed_configuration(latent_lab, *words)["model"]["init_args"]["latent_dim"] == 4


def test_nested_options_of_the_command_line_reach_their_place(latent_lab, tiny):
    words = ["--model.weights.latent", "50", "--model.adam.beta2=0.9", "--model.widths", "[4, 4]"]
    words += ["--model.schedule.stages.1.kimg", "0.5", "--data.init_args.num_val", "9", "--trainer.devices", "2"]
    whole = printed_configuration(latent_lab, "--config", "tiny", *words, "--max-kimg", "10", "--run-dir", "runs/2024")
    model = whole["model"]["init_args"]
    assert (model["weights"]["latent"], model["adam"], model["widths"]) == (
        50.0,
        {"beta1": 0.0, "beta2": 0.9, "epsilon": 1e-8},
        [4, 4],
    )
    assert [stage["kimg"] for stage in model["schedule"]["stages"]] == [0.032, 0.5]
    assert whole["data"]["init_args"]["num_val"] == 9
    assert (whole["run"]["max_kimg"], whole["run"]["dir"], whole["trainer"]["devices"]) == (10.0, "runs/2024", 2)


def test_a_schedule_may_be_a_file_of_its_own(latent_lab, tiny, folder):
    (folder / "rows.yaml").write_text("stages: [{resolution: 8, kimg: 3, batch_size: 4}]\n")
    whole = printed_configuration(latent_lab, "--config", "tiny", "--model.schedule", "rows.yaml")
    assert [stage["kimg"] for stage in whole["model"]["init_args"]["schedule"]["stages"]] == [3.0]


def test_one_seed_is_for_model_and_data(latent_lab, tiny):
    whole = printed_configuration(latent_lab, "--config", "tiny", "--seed", "7")
    assert (whole["model"]["init_args"]["seed"], whole["data"]["init_args"]["seed"]) == (7, 7)


def test_data_has_the_resolution_of_the_schedule_unless_told_otherwise(latent_lab, tiny):
    def resolution(*words):
        return printed_configuration(latent_lab, "--config", "tiny", *words)["data"]["init_args"]["resolution"]

    assert resolution() == 8
    assert resolution("--data.resolution", "16") == 16


def test_the_run_folder_is_named_after_the_first_configuration(latent_lab, tiny):
    assert printed_configuration(latent_lab, "--config", "tiny", "--config", "trainer/cpu")["run"]["dir"] == "runs/tiny"


def test_another_class_keeps_the_arguments_it_takes_too():
    below = {"data": {"class_path": "SyntheticFaces", "init_args": {"num_images": 5, "resolution": 8}}}
    whole = compose([below, {"data": {"class_path": "ImageFolder", "init_args": {"root": "x"}}}])
    assert whole["data"]["init_args"] == {"resolution": 8, "root": "x"}
    assert whole["data"]["class_path"].endswith(".ImageFolder")


def test_a_short_name_and_an_import_path_are_the_same_class():
    path = "latent_lab.models.pioneer.Pioneer"
    layers = [{"model": {"class_path": path, "init_args": {"seed": 3}}}, {"model": {"class_path": "Pioneer"}}]
    assert compose(layers) == compose(layers[:1])
    assert "Pioneer" in model_classes()


def test_the_schedule_table_has_a_row_for_each_stage():
    table = schedule_table(
        GrowthSchedule([Stage(4, 10.0, 8), Stage(8, 20.0, 4, fade_kimg=5.0, learning_rate_end=1e-4, margin=0.2)])
    )
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["0", "-", "10", "4", "8", "0.001", "none", "none"],
        ["10", "-", "30", "8", "4", "0.001", "to", "0.0001", "0.2", "5", "kimg"],
    ]


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model.latnet_dim", "3"], "Pioneer has no option latnet_dim (model.latnet_dim): did you mean latent_dim"),
        (["--model.latent_dim", "abc"], "model.latent_dim must be a whole number, got abc"),
        (
            ["--model.weights.latnt", "1"],
            "PioneerWeights has no option latnt (model.weights.latnt): did you mean latent?",
        ),
        (["--model", "Pioner"], "there is no model Pioner: did you mean Pioneer?"),
        (["--data", "ImageFodler"], "there is no data set ImageFodler: did you mean ImageFolder?"),
        (["--model", "latent_lab.models.pioneer.Pioner"], "there is no class latent_lab.models.pioneer.Pioner"),
        (["--model", "latent_lab.growth.Stage"], "latent_lab.growth.Stage is not a model"),
        (["--model.schedule.stages.1.resolution", "12"], "model.schedule.stages.1: resolution must be 4 * 2^k pixels"),
        (
            ["--model.schedule.stages.0.batch_size", "1"],
            "schedule.stages.0: batch_size must be at least 2 for Pioneer, got 1",
        ),
        (["--data.resolution", "9"], "resolution must be 4 * 2^k pixels"),
        (["--data.resolution", "4"], "the schedule grows to 8 px, but data.resolution is 4: set it to 8"),
        (["--data", "ImageFolder"], "data.root is missing: ImageFolder needs root"),
        (["--data", "ImageFolder", "--data.root", "nowhere"], "'nowhere' does not exist"),
        (["--data", "ImageFolder", "--data.root", "empty"], "'empty' holds no image file"),
        (["--run.max_kmg", "3"], "section run has no option max_kmg (run.max_kmg): did you mean max_kimg?"),
        (["--trainer.device", "3"], "Lightning's Trainer has no option device (trainer.device): did you mean devices?"),
        (["--trainer.max_epochs", "3"], "trainer.max_epochs is set by latent-lab: write run.max_kimg"),
        (["--model.generator_steps", "0"], "generator_steps must be at least 1, got 0"),
        (["--model.schedule", "rows.yaml"], "No such file or directory: rows.yaml"),
        (["--confg", "tiny"], "fit has no option --confg: did you mean --config?"),
        (["--config", "tinny"], "there is no configuration tinny"),
        (["tiny"], "fit takes no bare word, got tiny: write --config tiny"),
        (["--resume", "nowhere.ckpt"], "no checkpoint at nowhere.ckpt"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(words, sentence, latent_lab, tiny, folder):
    (folder / "empty").mkdir()
    outcome = latent_lab("fit", "--config", "tiny", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert sentence in outcome.error
    assert outcome.error.startswith("latent-lab: ")
    assert outcome.error.count("\n") == 1
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("words", [["fti"], ["fit"], ["fit", "--model", "Pioneer", "--run-dir", "x"]])
def test_an_incomplete_or_unknown_command_gets_one_sentence(words, latent_lab):
    outcome = latent_lab(*words)
    assert outcome.code == 2
    assert outcome.error.count("\n") == 1


def test_a_syntax_error_is_named_with_file_and_line(latent_lab, folder):
    (folder / "wrong.yaml").write_text("model:\n  class_path: [Pioneer\ndata: x\n")
    outcome = latent_lab("fit", "--config", "wrong.yaml")
    assert outcome.code == 2
    assert "wrong.yaml, line 3, column 5" in outcome.error


def test_a_run_is_not_overwritten(latent_lab, tiny, folder, checkpoint):
    last = folder / "runs" / "tiny" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    checkpoint.rename(last)
    before = last.read_bytes()
    outcome = latent_lab("fit", "--config", "tiny")
    assert outcome.code == 2
    assert "runs/tiny holds a run: continue it with --resume auto, or choose another --run-dir" in outcome.error
    assert last.read_bytes() == before


def test_options_that_make_other_networks_are_refused_on_resume(latent_lab, checkpoint):
    outcome = latent_lab("fit", "--resume", checkpoint, "--run-dir", "x", "--model.latent_dim", "16")
    assert outcome.code == 2
    assert "do not fit these networks (model.latent_dim: 16, was 8)" in outcome.error


def test_the_checkpoint_of_another_model_is_refused(latent_lab, checkpoint, tiny):
    content = torch.load(checkpoint)
    content["latent_lab"]["model"]["class_path"] = "latent_lab.models.base.LatentModel"
    torch.save(content, checkpoint)
    outcome = latent_lab("fit", "--config", "tiny", "--resume", checkpoint)
    assert outcome.code == 2
    assert "the checkpoint holds a LatentModel, the configuration asks for a Pioneer" in outcome.error


# ---------------------------------------------------------------------------------------------------------- resume


def test_resume_auto_begins_where_there_is_nothing(folder):
    assert find_start("auto", folder / "new").checkpoint is None


def test_resume_auto_takes_the_last_checkpoint(folder, checkpoint):
    checkpoint.rename(folder / "4px.ckpt")
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes((folder / "4px.ckpt").read_bytes())
    (run / "checkpoints" / "8px.ckpt").write_bytes((folder / "4px.ckpt").read_bytes())
    assert find_start("auto", run).checkpoint == last


def test_resume_auto_says_that_the_last_checkpoint_is_damaged_and_takes_an_earlier_one(folder, checkpoint, capsys):
    (folder / "run" / "checkpoints").mkdir(parents=True)
    earlier, last = (folder / "run" / "checkpoints" / name for name in ("4px.ckpt", "last.ckpt"))
    earlier.write_bytes(checkpoint.read_bytes())
    last.write_bytes(checkpoint.read_bytes()[:5000])
    assert find_start("auto", folder / "run").checkpoint == earlier
    assert "last.ckpt is damaged or only half written" in capsys.readouterr().err


def test_resume_auto_does_not_begin_again_over_damaged_checkpoints(folder, checkpoint):
    (folder / "run" / "checkpoints").mkdir(parents=True)
    (folder / "run" / "checkpoints" / "last.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read: choose another --run-dir"):
        find_start("auto", folder / "run")


def test_the_recipes_of_a_checkpoint_are_the_lowest_layer(latent_lab, checkpoint):
    words = ["--resume", checkpoint, "--run-dir", "x", "--model.weights.latent", "5"]
    whole = printed_configuration(latent_lab, *words)
    assert whole["model"]["init_args"]["latent_dim"] == 8
    assert whole["model"]["init_args"]["weights"]["latent"] == 5.0
    assert whole["data"]["init_args"]["num_images"] == 16


def test_a_run_leaves_its_records_and_says_what_a_resume_changes(latent_lab, tiny, folder):
    assert latent_lab("fit", "--config", "tiny", "--run.progress", "false").code == 0
    run = folder / "runs" / "tiny"
    assert "torch:" in (run / "environment.txt").read_text()
    begun = (run / "config.yaml").read_text()
    words = ("--resume", "auto", "--model.weights.latent", "5", "--max-kimg", "0.112")
    outcome = latent_lab("fit", "--run-dir", "runs/tiny", *words)
    assert outcome.code == 0, outcome.error
    assert "changed: model.weights.latent: 5.0, was 100.0" in outcome.error
    assert "changed: run.max_kimg: 0.112, was null" in outcome.error
    assert (run / "config.yaml").read_text() == begun
    assert yaml.safe_load((run / "config.resume-1.yaml").read_text())["run"]["max_kimg"] == 0.112
    assert latent_lab("fit", "--run-dir", "runs/tiny", "--resume", "auto").code == 0
    assert not (run / "config.resume-2.yaml").exists()
