"""Tables in Markdown and plots of rules that were replayed on one table of curves."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.outcomes import NEAR, Outcome, bootstrap, median, win_rate

if TYPE_CHECKING:
    from benchmarks.replay import Bench

REFERENCE = "asha 1 3"
Found = Mapping[tuple[str, int, int], Mapping[str, Any]]


def write_report(bench: "Bench", found: Found, out: Path | None) -> str:
    """Returns the report; writes it and its plots into a folder, if one is given."""
    given = bench.given
    lines = _describe(bench)
    for n_trials in given.trials:
        for n_slots in given.slots:
            outcomes = {name: found[name, n_trials, n_slots]["outcomes"] for name in bench.rules}
            lines += [f"\n## {n_trials} trials, {n_slots} at once", "", *_tabulate(bench, outcomes)]
        outcomes = {name: found[name, n_trials, given.slots[0]]["outcomes"] for name in bench.rules}
        lines += [f"\n### Who beats whom, {n_trials} trials, {given.slots[0]} at once", "", *_compare(outcomes)]
    lines += ["\n## Every configuration of the table tried, one at a time", "", *_tabulate_survivors(bench, found)]
    text = "\n".join(lines)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "replay.md").write_text(text + "\n", encoding="utf-8")
        for n_trials in given.trials:
            _plot(bench, found, n_trials, out / f"regret_{n_trials}.png")
    return text


def _describe(bench: "Bench") -> list[str]:
    header, answers, goal = bench.answers.table.header, bench.answers, bench.goal
    start = [
        f"{key} {max(row.metrics['val_dice']):.3f}" for key, row in answers.table.rows.items() if isinstance(key, str)
    ]
    drawn = answers.list_proposable()
    n_drawn = sum(isinstance(key, int) for key in answers.keys)
    lines = [
        f"{header['data']} (fingerprint {header['data_fingerprint']}), protocol {header['protocol']}, model "
        f"{header['model']} ({header['model_hash']}): {len(drawn)} of {n_drawn} random configurations lie in the "
        f"space, {header['max_epochs']} epochs each; {bench.given.seeds} seeds."
        + f" Left out: {bench.n_left_out} rows without the Dice at one of the rules' scales."
        * bool(bench.n_left_out),
        f"Zero-shot {header['zeroshot']['val']:.3f} on validation and {header['zeroshot']['test']:.3f} on test. Each "
        f"configuration at its best validation epoch: best on test {goal.best:.3f}, best decile {goal.decile:.3f}. "
        f"Starting points on validation: {', '.join(start)}.",
    ]
    error = answers.measure_error()
    lines.append(
        f"The surrogate on rows left out one by one, last epoch's test Dice: R2 {error.r2:.2f}, rank correlation "
        f"{error.rank:.2f}, mean absolute error {error.mae:.3f}."
    )
    return lines


def _tabulate(bench: "Bench", outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """Returns a row a rule: intervals are 95 %, bootstrapped over seeds."""
    goal = bench.goal
    reference = REFERENCE if REFERENCE in outcomes else next(iter(outcomes))
    lines = [
        "| rule | epochs | hours | test Dice of the winner | regret | epochs to the best decile - "
        f"{NEAR} (median) | reached | beats {reference} | at equal epochs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in outcomes.items():
        dice, low, high = bootstrap([one.at(one.spent) for one in each])
        reached = [one.count_until(goal.decile - NEAR) for one in each]
        typical = bootstrap(reached, median)
        rates = [win_rate(each, outcomes[reference], equal) for equal in (False, True)]
        cells = [
            name,
            f"{np.mean([one.spent for one in each]):.0f}",
            f"{np.mean([one.hours for one in each]):.2f}",
            f"{dice:.4f} [{low:.4f}, {high:.4f}]",
            f"{goal.best - dice:.4f}",
            f"{_spell(typical[0])} [{_spell(typical[1])}, {_spell(typical[2])}]",
            f"{np.mean(np.isfinite(reached)):.0%}",
            *(f"{rate:.0%}" for rate in rates),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _spell(epochs: float) -> str:
    return f"{epochs:.0f}" if math.isfinite(epochs) else "never"


def _compare(outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """Returns the share of seeds in which the row's rule has the better test Dice at its end than the column's."""
    lines = [f"| | {' | '.join(outcomes)} |", "|---" * (len(outcomes) + 1) + "|"]
    for name, mine in outcomes.items():
        cells = ["" if mine is theirs else f"{win_rate(mine, theirs):.0%}" for theirs in outcomes.values()]
        lines.append(f"| **{name}** | {' | '.join(cells)} |")
    return lines


def _tabulate_survivors(bench: "Bench", found: Found) -> list[str]:
    from benchmarks.replay import EVERYTHING

    lines = ["| rule | of the ten best reach their last epoch | epochs | of all |", "|---|---|---|---|"]
    n_all = (len(bench.answers.list_proposable()) + len(bench.config.start_from)) * bench.config.max_epochs
    for name in bench.list_exhaustive():
        result = found[name, EVERYTHING, 1]
        kept, low, high = bootstrap(result["survivors"])
        spent = float(np.mean([one.spent for one in result["outcomes"]]))
        lines.append(f"| {name} | {kept:.1f} [{low:.1f}, {high:.1f}] | {spent:.0f} | {spent / n_all:.0%} |")
    return lines


def _plot(bench: "Bench", found: Found, n_trials: int, path: Path) -> None:
    """Draws mean regret on test by epochs spent, with 95 % intervals of the mean, a panel a number of slots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    slots = bench.given.slots
    figure, panels = plt.subplots(
        1, len(slots), figsize=(4.6 * len(slots) + 1.8, 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, n_slots in zip(panels[0], slots, strict=True):
        for number, name in enumerate(bench.rules):
            outcomes = found[name, n_trials, n_slots]["outcomes"]
            # As far as half of the seeds have come; those that have ended keep their last incumbent.
            epochs = np.arange(1, int(np.median([one.spent for one in outcomes])) + 1)
            regret = bench.goal.best - np.array([[one.at(int(epoch)) for epoch in epochs] for one in outcomes])
            mean, error = regret.mean(axis=0), 1.96 * regret.std(axis=0) / math.sqrt(len(outcomes))
            style = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
            axes.plot(epochs, mean, label=name, **style)
            axes.fill_between(epochs, mean - error, mean + error, color=style["color"], alpha=0.12, linewidth=0)
        axes.axhline(bench.goal.best - bench.goal.decile, color="0.6", linestyle=":", linewidth=1)
        axes.set(xlabel="epochs spent", xscale="log", title=f"{n_trials} trials, {n_slots} at once")
        axes.grid(alpha=0.3)
    panels[0][0].set_ylabel("regret: test Dice below the table's best")
    figure.legend(*panels[0][0].get_legend_handles_labels(), fontsize="small", loc="outside right center")
    figure.savefig(path, dpi=110)
    plt.close(figure)
