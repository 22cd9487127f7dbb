from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from latent_lab.cli import main
from latent_lab.cli.commands import COMMANDS
from latent_lab.cli.completion import Line, all_lines, bash_script, fish_script


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    return all_lines()


@pytest.fixture(scope="module")
def script(lines: list[Line], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    path = tmp_path_factory.mktemp("completion") / "latent-lab.bash"
    path.write_text(bash_script(lines), encoding="utf-8")
    return path


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words after `latent-lab`."""
    code = f'source {script}; COMP_WORDS=(latent-lab "$@"); COMP_CWORD=$#; _latent_lab; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", code, "bash", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands(script: Path):
    assert completed(script, "map") == ["map-matrix", "map"] or sorted(completed(script, "map")) == [
        "map",
        "map-matrix",
    ]
    assert set(completed(script, "")) == {command.name for command in COMMANDS} | {"--help", "--version"}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("fit", "--run"), {"--run-dir", "--run."}),
        (("fit", "--config", "age_syn"), {"age_synthetic.yaml"}),
        (("sample", "--ckpt", "stylegan_f"), {"stylegan_faces32"}),
        (("sample", "--keep"), {"--keep-percent"}),
        (("test", "--download", ""), {"true", "false"}),
        (("analyze", "over"), {"overview"}),
        (("chain", ""), {"build", "apply", "report", "export", "label"}),
        (("chain", "apply", "--dir"), {"--direction"}),
        (("chain", "build", "--dir"), set()),
        (("help", "GammaV"), {"GammaVAE"}),
        (("sample", "photos/"), set()),
        (("chain", "apply", "chain_"), {"chain_faces64"}),
        (("chain", "build", "chain_"), set()),
        (("chain", "label", "--ha"), set()),
        (("chain", "export", "--ha"), {"--half"}),
        (("report", "stylegan_"), {"stylegan_faces32"}),
        (("map", "gamma_vae_faces32", "split_"), {"split_vae_faces32"}),
    ],
    ids=lambda given: " ".join(sorted(given) if isinstance(given, set) else given),
)
def test_bash_completes_options_choices_and_names(script: Path, words: tuple[str, ...], offered: set[str]):
    assert set(completed(script, *words)) == offered


def test_fish_knows_every_option_of_every_command(lines: list[Line]):
    rows = fish_script(lines).splitlines()
    for line in lines:
        mine = [row for row in rows if f"(commandline -opc)[2] = {line.command}" in row]
        assert all(any(f" -l {option.name} " in row for row in mine) for option in line.options)
    assert all(row.count("'") % 2 == 0 for row in rows if "\\'" not in row)


def test_fish_offers_checkpoints_and_chains_where_a_word_may_name_one(lines: list[Line]):
    rows = fish_script(lines).splitlines()
    for command, name in (("report", "stylegan_faces32"), ("chain", "chain_faces64")):
        assert any(f"(commandline -opc)[2] = {command}" in row and "' -a '" in row and name in row for row in rows)


def test_zsh_loads_what_runs_the_script_of_bash(capsys: pytest.CaptureFixture[str]):
    assert main(["completion", "zsh"]) == 0
    assert "bashcompinit" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_refused_in_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["completion", *words]) == 2
    error = capsys.readouterr().err
    assert "bash, fish, zsh" in error
    assert error.count("\n") == 1
