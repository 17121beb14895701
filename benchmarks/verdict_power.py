"""How often the verdict says `beaten`: without a difference (must be rare), and with one (the power curve).

python benchmarks/verdict_power.py --scores ../shared/data/recorded/zeroshot_per_image.csv --out docs

Draws are made from the differences that two recorded protocols show on the 45 test patients, moved to mean
zero. Two nulls: `flip` keeps all 45 patients and flips the sign of each one's differences (symmetric),
`resample` draws patients with replacement (as skewed as the recorded differences). Prints the tables of
docs/verdict.md and draws its plot.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.judging.paired_scores import read_scores
from search.judging.statistics import Comparison, FloatArray, compare
from search.judging.verdict import decide

N_TEST, N_VALIDATION, N_TRIALS = 45, 21, 32
N_RESAMPLES = 1_999  # fewer than the verdict's 9,999: the word of a draw may differ, the rate hardly does
DIFFERENCES = tuple(step / 100 for step in range(1, 11))
MODELS = (
    ("dice_box_neg", "dice_box"),
    ("dice_box", "dice_box_neg"),
    ("dice_box", "dice_centroid"),
    ("dice_centroid", "dice_box"),
)


@dataclass(frozen=True)
class Blocks:
    """Differences of two models, one block a patient, with mean zero over all pairs.

    Attributes:
        name: Which two models.
        blocks: Differences of the pairs of each patient, float64.
    """

    name: str
    blocks: tuple[FloatArray, ...]

    def draw(self, n_patients: int, null: str, rng: np.random.Generator) -> list[FloatArray]:
        """Blocks of `n_patients` patients without a difference; `null` is `flip` or `resample`."""
        if null == "flip" and n_patients == len(self.blocks):
            chosen = list(self.blocks)
        else:
            chosen = [self.blocks[i] for i in rng.integers(len(self.blocks), size=n_patients)]
        return [block * rng.choice((-1, 1)) for block in chosen] if null == "flip" else chosen


def read_blocks(scores: Path, candidate: str, baseline: str) -> Blocks:
    """Reads the differences of two columns and moves them to mean zero."""
    table = read_scores(scores, candidate, baseline)
    difference = table.candidate - table.baseline
    centered = difference - difference.mean()
    patients = np.unique(table.patient)
    name = f"{candidate} - {baseline}".replace("dice_", "")
    return Blocks(name, tuple(centered[table.patient == patient] for patient in patients))


def scale_blocks(blocks: Blocks, factor: float) -> Blocks:
    """The same patients with `factor` times the spread."""
    return Blocks(f"{factor:g} x ({blocks.name})", tuple(factor * block for block in blocks.blocks))


def compare_blocks(
    blocks: list[FloatArray], rng: np.random.Generator, shift: float = 0.0, n_resamples: int = N_RESAMPLES
) -> Comparison:
    """The comparison that the verdict makes of these patients, every pair moved by `shift`."""
    patient = np.repeat(np.arange(len(blocks)).astype(np.str_), [block.size for block in blocks])
    return compare(np.concatenate(blocks) + shift, patient, rng, n_resamples=n_resamples)


def draw_best_of_trials(
    pool: tuple[Blocks, ...], rng: np.random.Generator
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Validation and test blocks of the trial that is best on validation, of 32 like the baseline.

    Trials differ in spread, so that choosing favors the noisy ones; test patients are drawn anew.
    """
    best_score, best = -np.inf, (0, 1.0)
    best_validation: list[FloatArray] = []
    for _ in range(N_TRIALS):
        which, scale = int(rng.integers(len(pool))), float(rng.uniform(0.5, 1.5))
        validation = [scale * block for block in pool[which].draw(N_VALIDATION, "resample", rng)]
        score = float(np.concatenate(validation).mean())
        if score > best_score:
            best_score, best, best_validation = score, (which, scale), validation
    test = [best[1] * block for block in pool[best[0]].draw(N_TEST, "resample", rng)]
    return best_validation, test


def summarize(comparisons: list[Comparison]) -> str:
    """Rates in percent, as cells of a Markdown table."""
    words = [decide(one)[0] for one in comparisons]
    plain = [one.interval is not None and one.interval.low > 0 for one in comparisons]
    both = [clear and one.p_value < 0.05 for clear, one in zip(plain, comparisons, strict=True)]
    rates = [np.mean([word == "beaten" for word in words]), np.mean(both), np.mean(plain),
             np.mean([word == "not beaten" for word in words])]  # fmt: skip
    return " | ".join(f"{100 * rate:.1f} %" for rate in rates)


def print_null_rates(pool: tuple[Blocks, ...], n_draws: int) -> None:
    """The table of false verdicts."""
    print("\n| differences | null | patients | beaten | 95 % and p | 95 % alone | not beaten |")
    print("|---|---|---|---|---|---|---|")
    settings = [(b, null, N_TEST) for b in pool for null in ("flip", "resample")]
    for blocks, null, n_patients in [*settings, *((b, "resample", N_VALIDATION) for b in pool)]:
        rng = np.random.default_rng(1)
        found = [compare_blocks(blocks.draw(n_patients, null, rng), rng) for _ in range(n_draws)]
        print(f"| {blocks.name} | {null} | {n_patients} | {summarize(found)} |", flush=True)
    rng = np.random.default_rng(2)
    on_validation, on_test = [], []
    for _ in range(n_draws):
        validation, test = draw_best_of_trials(pool, rng)
        on_validation.append(compare_blocks(validation, rng))
        on_test.append(compare_blocks(test, rng))
    print(f"| best of 32, judged on test | resample | {N_TEST} | {summarize(on_test)} |")
    print(f"| best of 32, judged where chosen | resample | {N_VALIDATION} | {summarize(on_validation)} |", flush=True)


def measure_power(blocks: Blocks, n_draws: int) -> list[tuple[float, float]]:
    """Rate of `beaten`, and of the 95 % interval with p < 0.05, for each true difference."""
    rates = []
    for shift in DIFFERENCES:
        rng = np.random.default_rng(3)
        found = [compare_blocks(blocks.draw(N_TEST, "resample", rng), rng, shift) for _ in range(n_draws)]
        beaten = np.mean([decide(one)[0] == "beaten" for one in found])
        both = np.mean([one.interval is not None and one.interval.low > 0 and one.p_value < 0.05 for one in found])
        rates.append((float(beaten), float(both)))
    return rates


def plot_power(power: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Draws the power curves as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, rates), color in zip(power.items(), ("tab:blue", "tab:green", "tab:orange"), strict=True):
        axes.plot(DIFFERENCES, [beaten for beaten, _ in rates], "o-", color=color, label=name)
    axes.axhline(0.8, color="0.6", linestyle="--", linewidth=1)
    axes.text(DIFFERENCES[-1], 0.81, "80 %", color="0.4", ha="right", va="bottom")
    axes.set(xlabel="true mean difference in Dice", ylabel="probability of `beaten`", ylim=(0, 1.04),
             xticks=DIFFERENCES, title="What 45 test patients can show")  # fmt: skip
    axes.legend(title="spread of the differences as in", loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Prints the tables and draws the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=Path, required=True, metavar="FILE.csv", help="the recorded scores")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR", help="where the plot goes")
    parser.add_argument("--draws", type=int, default=2_000, help="draws of each null rate")
    parser.add_argument("--power-draws", type=int, default=500, help="draws of each point of the curve")
    options = parser.parse_args()
    pool = tuple(read_blocks(options.scores, candidate, baseline) for candidate, baseline in MODELS)
    spreads = (pool[0], scale_blocks(pool[2], 0.5), pool[2])
    power = {blocks.name: measure_power(blocks, options.power_draws) for blocks in spreads}
    plot_power(power, options.out / "verdict_power.png")
    print("| true difference | " + " | ".join(f"{name}: beaten | 95 % and p" for name in power) + " |")
    print("|---|" + "---|" * 2 * len(power))
    for place, shift in enumerate(DIFFERENCES):
        cells = [f"{100 * rate:.0f} %" for rates in power.values() for rate in rates[place]]
        print(f"| {shift:.2f} | " + " | ".join(cells) + " |")
    print_null_rates(pool, options.draws)


if __name__ == "__main__":
    main()
