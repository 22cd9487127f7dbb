from __future__ import annotations

import subprocess
import sys
import time

import pytest

from latent_lab.cli import main
from latent_lab.cli.commands import COMMANDS, GROUPS


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_loads_neither_torch_nor_lightning_nor_jsonargparse():
    loaded = python("import sys; from latent_lab.cli import main; main(['--help']); print(sorted(sys.modules))")
    for heavy in ("torch", "lightning", "jsonargparse", "numpy"):
        assert f"'{heavy}'" not in loaded


def test_help_answers_in_less_than_a_second():
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "latent_lab.cli", "--help"], capture_output=True, check=True)
    assert time.monotonic() - start < 1.0


def test_help_names_every_command_in_its_group(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 75
    assert all(f"\n  {command.name} " in shown for command in COMMANDS)
    assert {command.group for command in COMMANDS} == set(GROUPS)


def test_a_reader_that_stops_reading_is_no_error():
    command = [sys.executable, "-m", "latent_lab.cli", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.parametrize("words", [[], ["-h"], ["help"]])
def test_a_bare_call_shows_the_help(words, capsys):
    assert main(words) == 0
    assert "usage: latent-lab COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_help_of_a_command_has_few_lines_beside_its_options_and_few_of_each_option(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main([command.name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: latent-lab {command.name}")
    lines = shown.splitlines()
    options = sum(line.startswith("  --") for line in lines)
    assert len(lines) <= 25 + 1.35 * options


def test_the_help_of_an_analysis_command_shows_the_fields_of_the_analysis(capsys):
    main(["sample", "--help"])
    assert "--columns N" in capsys.readouterr().out


def test_help_with_the_name_of_a_command_is_that_commands_help(capsys):
    main(["help", "fit"])
    assert capsys.readouterr().out.startswith("usage: latent-lab fit")


def test_help_on_a_model_explains_its_options_and_nested_ones(capsys):
    assert main(["help", "Pioneer"]) == 0
    shown = capsys.readouterr().out
    assert "--model.latent_dim  (a whole number; default 512)" in shown
    assert "--model.weights.latent  (a number; default 100.0)" in shown
    assert "--model.schedule.stages.0.kimg  (a number; required)" in shown
    assert "D of the unit sphere in R^D." in shown


@pytest.mark.parametrize("name", ["ImageFolder", "imagefolder", "run", "trainer", "evaluate"])
def test_help_explains_data_sets_sections_and_analyses(name, capsys):
    assert main(["help", name]) == 0
    assert "default" in capsys.readouterr().out


def test_help_on_the_trainer_leaves_out_what_a_run_takes_care_of(capsys):
    main(["help", "trainer"])
    shown = capsys.readouterr().out
    assert "--trainer.precision" in shown
    assert "--trainer.max_epochs" not in shown


@pytest.mark.parametrize(
    ("command", "line"), [("models", "Pioneer "), ("data", "SyntheticFaces  "), ("configs", "trainer/cpu.yaml ")]
)
def test_listings_have_one_line_for_each_thing(command, line, capsys):
    assert main([command]) == 0
    assert any(one.startswith(line) for one in capsys.readouterr().out.splitlines())


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __import__("latent_lab").__version__
