"""The console command: it teaches at once, knows its verbs, and passes their words on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from search.command_line.command_parser import CONSOLE
from search.console import VERBS, main


@pytest.mark.parametrize("words", [[], ["--help"], ["help"]])
def test_alone_it_says_what_to_type_first(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    said = capsys.readouterr().out
    assert f"Type first:\n  {CONSOLE} run --space lora.yaml\n" in said
    assert all(f"\n  {verb} " in said for verb in VERBS)


def test_an_unknown_verb_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resum"]) == 2
    assert "did you mean resume?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_teaches_with_examples(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{CONSOLE}"])
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    assert said.startswith(f"usage: {CONSOLE} {verb} ") and f"\nexamples:\n  {CONSOLE} {verb}" in said


def test_a_verb_is_the_module_of_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--run", "none", "--storage", "/nowhere"]) == 2
    assert "--run none" in capsys.readouterr().err
    assert main(["resume", "--storage", "/nowhere"]) == 2
    assert "--resume last" in capsys.readouterr().err


def test_help_and_completion_import_no_heavy_library() -> None:
    code = f"""
import contextlib, sys
from search.console import VERBS, main
assert "argparse" in sys.modules and "yaml" not in sys.modules
for words in [[], *([verb, "--help"] for verb in {list(VERBS)}), ["completion", "bash"]]:
    with contextlib.suppress(SystemExit):
        main(words)
import search; search.run_search
heavy = {{"torch", "ray", "mlflow", "optuna", "pandas", "scipy", "sam2", "matplotlib"}} & sys.modules.keys()
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
