"""What a soup gains over the best single training on the demo's test regions, over searches that have ended.

python -m benchmarks.soup_gain --runs runs/seed-* --out soup_gain.csv

A benchmark of the method and no part of any search: it scores every contender of a confirmation on test, which a search
does for the chosen one alone. It therefore takes searches on the demo only, whose regions can be drawn anew.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.command_line.exit_codes import run_command
from search.command_line.telemetry import silence_telemetry
from search.errors import ConfigError
from search.run_folder.contenders import SINGLE, Contender
from search.run_folder.finalists import Confirmation
from search.run_folder.search_record import SearchRecord
from search.run_folder.summary import Summary

COLUMNS = ("run", "contender", "members", "scale", "val_dice", "test_dice", "zeroshot_test_dice", "chosen")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints and writes the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", type=Path, required=True, help="folders of searches that have ended")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, a row a contender")
    arguments = parser.parse_args(argv)
    silence_telemetry()
    return run_command(lambda: write_gains(arguments.runs, arguments.out))


def write_gains(runs: Sequence[Path], out: Path) -> int:
    """Scores the contenders of every search; returns 0.

    Raises:
        ConfigError: If a folder holds no search on the demo that has ended.
    """
    rows = [row for run in runs for row in list_rows(run)]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(describe_gains(rows)))
    return 0


def list_rows(run: Path) -> list[dict[str, object]]:
    """Returns a row a contender of one search."""
    record, summary, contenders = SearchRecord.read(run), Summary.read(run), Confirmation.read(run).contenders
    if "demo data" not in record.demo or summary is None or not contenders:
        raise ConfigError.at(run, "is no search on the demo that has ended", "pass folders of such searches")
    chosen = summary.chosen.soup or SINGLE
    return [
        {
            "run": run.name,
            "contender": each.kind,
            "members": len(each.members),
            "scale": each.scale,
            "val_dice": each.val_dice,
            "test_dice": score_on_test(run, record, each),
            "zeroshot_test_dice": summary.test.zeroshot_dice,
            "chosen": each.kind == chosen,
        }
        for each in contenders
    ]


def score_on_test(run: Path, record: SearchRecord, contender: Contender) -> float:
    """Returns the Dice of a contender on the search's test regions."""
    from trainables.evaluation.candidates import score_candidate  # late: it imports PyTorch

    return score_candidate(record.context, run / contender.checkpoint, record.split["test"], contender.scale).dice


def describe_gains(rows: Sequence[dict[str, object]]) -> list[str]:
    """Returns the mean gain of each kind of soup, and of what was chosen, over the single training of its search."""
    dice = {(str(row["run"]), str(row["contender"])): float(str(row["test_dice"])) for row in rows}
    dice |= {(str(row["run"]), "chosen"): float(str(row["test_dice"])) for row in rows if row["chosen"]}
    lines = []
    for kind in dict.fromkeys(kind for _, kind in dice if kind != SINGLE):
        gains = np.array([value - dice[run, SINGLE] for (run, name), value in dice.items() if name == kind])
        spread = gains.std(ddof=1) if len(gains) > 1 else float("nan")
        better = int((gains > 0).sum())
        lines.append(
            f"{kind}: test Dice {gains.mean():+.4f} against the single training of its search (standard deviation "
            f"{spread:.4f} over {len(gains)} searches, better in {better})"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
