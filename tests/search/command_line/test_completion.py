"""Completion by shtab: the scripts name verbs and options, and bash can read its own."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from search.command_line.completion import SHELLS
from search.console import VERBS, main


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_verbs_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in (*VERBS, "sam2-search", "num-trials", "bcss"))
    if found := shutil.which(shell):
        assert subprocess.run([found, "-n"], input=script, text=True, capture_output=True).returncode == 0


def test_bash_completes_verbs_options_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    main(["completion", "bash"])
    script = capsys.readouterr().out
    for words, expected in (("re", "resume report"), ("run --num", "--num-trials"), ("run --split b", "bcss")):
        typed = ["sam2-search", *words.split()]
        ask = f"COMP_WORDS=({' '.join(typed)}); COMP_CWORD={len(typed) - 1}; _shtab_sam2_search; echo ${{COMPREPLY[@]}}"
        done = subprocess.run([bash, "-c", f"{script}\n{ask}"], text=True, capture_output=True)
        assert set(done.stdout.split()) == set(expected.split()), done.stderr
