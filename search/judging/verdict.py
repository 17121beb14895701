"""Does one model beat another on the same (image, class) pairs? The verdict: figures and one word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from search.judging.paired_scores import PATIENT_COLUMN, PairedScores, read_scores
from search.judging.statistics import Comparison, adjust_holm, compare

# Of Dice: two trainings that differ by their seeds alone differ by as much.
SMALL_DIFFERENCE = 0.005

# What the reader of a verdict must know where nothing is prompted.
PAIRS_WITHOUT_PROMPTS = (
    "no prompts: a pair is a class that its image shows; what is seen of a class in an image without it lowers the "
    "overall Dice, and here only the pairs of the classes that those pixels have; zeroshot stands for untrained class "
    "prompts, as zero-shot SAM2 knows no classes"
)
_SEED = 0  # of the bootstrap: a verdict does not depend on a search's seed

Word = Literal["beaten", "not beaten", "undecided"]
MIN_PATIENTS = 6  # the two-sided signed-rank p-value of five patients is at least 2 / 2**5 = 0.0625


@dataclass(frozen=True)
class ClassComparison:
    """One class of a verdict: its comparison, and its p-value adjusted for the number of classes (Holm)."""

    comparison: Comparison
    p_value_holm: float


@dataclass(frozen=True)
class Verdict:
    """The figures and the one word, `beaten`, `not beaten` or `undecided`; `decide` holds the rule.

    Means are over pairs; ``overall`` and ``per_class`` (empty when there is one class only) are candidate minus
    baseline. The notes say what the reader must know about the input.
    """

    word: Word
    reason: str
    candidate_name: str
    baseline_name: str
    candidate_mean: float
    baseline_mean: float
    overall: Comparison
    per_class: dict[str, ClassComparison]
    notes: tuple[str, ...]

    def to_text(self) -> str:
        """Returns the verdict as a few lines for a terminal."""
        total = self.overall
        lines = [
            f"{self.candidate_name} against {self.baseline_name}: {self.word}",
            f"  because {self.reason}",
            f"  mean score         {self.candidate_mean:.4f} against {self.baseline_mean:.4f}",
            f"  mean difference    {total.mean_difference:+.4f}  ({total.describe_interval()})",
            f"  signed-rank test   p = {total.p_value:.3g} (Wilcoxon, patient means)",
            f"  wins/losses/ties   {total.wins}/{total.losses}/{total.ties} "
            f"of {total.n_pairs} pairs, {total.n_patients} patients",
        ]
        if self.per_class:
            width = max(len(name) for name in self.per_class)
            lines.append("  by class (p after Holm's correction)")
            for name, found in self.per_class.items():
                one = found.comparison
                difference = f"{one.mean_difference:+.4f}  ({one.describe_interval()})"
                lines.append(
                    f"    {name:<{width}}  {difference:<46}  p = {found.p_value_holm:<8.3g}"
                    f"  {one.wins}/{one.losses}/{one.ties}"
                )
        lines.append("  intervals: BCa bootstrap over patients")
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def judge(scores: PairedScores) -> Verdict:
    """Returns the verdict on two models, overall and by class; the same scores always give the same one."""
    difference = scores.candidate - scores.baseline
    overall = compare(difference, scores.patient, np.random.default_rng(_SEED))
    word, reason = decide(overall)
    return Verdict(
        word=word,
        reason=reason,
        candidate_name=scores.candidate_name,
        baseline_name=scores.baseline_name,
        candidate_mean=float(scores.candidate.mean()),
        baseline_mean=float(scores.baseline.mean()),
        overall=overall,
        per_class=_compare_classes(scores),
        notes=(*scores.notes, *_note_small_difference(word, overall)),
    )


def read_verdict(path: Path, is_auto: bool, caveats: Sequence[str] = ()) -> Verdict:
    """Returns the verdict on a search's winner by the file of an opening of its test set.

    Without prompts (``is_auto``) a note says what a pair is; caveats are further notes.

    Raises:
        ConfigError: If the file cannot be read.
    """
    verdict = judge(read_scores(path, "winner", "zeroshot", PATIENT_COLUMN))
    return replace(verdict, notes=(*verdict.notes, *[PAIRS_WITHOUT_PROMPTS] * is_auto, *caveats))


def decide(comparison: Comparison) -> tuple[Word, str]:
    """Returns the one word about candidate and baseline, with its reason.

    - `undecided` if there are fewer than 6 patients, whatever they show;
    - `beaten` if the 99 % interval of the mean difference lies above 0 and the two-sided signed-rank test on
      patient means gives p < 0.05 in the candidate's favor;
    - `not beaten` if the 95 % interval shows the candidate at or below the baseline (upper bound <= 0), or both are
      equal on every pair;
    - `undecided` otherwise.

    The 95 % interval does not hold its promise where a few patients lose much and most gain a little: without
    any difference it lies above 0 in more than 5 % of draws (docs/verdict.md). Hence 99 %, and a second test.
    """
    interval, strict, p = comparison.interval, comparison.strict_interval, comparison.p_value
    if comparison.n_patients < MIN_PATIENTS or interval is None or strict is None:
        patients = "1 patient is" if comparison.n_patients == 1 else f"{comparison.n_patients} patients are"
        return "undecided", f"{patients} too few to decide (at least {MIN_PATIENTS} needed)"
    if not comparison.wins + comparison.losses:
        return "not beaten", "both are equal on every pair, as where the winner is zero-shot itself"
    if strict.low > 0 and p < 0.05 and comparison.ranks_favor_candidate:
        return "beaten", f"the 99 % interval lies above 0 and the signed-rank test agrees (p = {p:.2g})"
    if interval.high <= 0:
        return "not beaten", "the 95 % interval shows the candidate at or below the baseline"
    if interval.low <= 0:
        return "undecided", "the 95 % interval includes 0"
    if strict.low <= 0:
        return "undecided", "the 95 % interval lies above 0, but the 99 % one includes 0"
    return "undecided", f"the interval lies above 0, but the signed-rank test does not agree (p = {p:.2g})"


def _note_small_difference(word: Word, overall: Comparison) -> tuple[str, ...]:
    """Returns a note if the difference is significant and tiny."""
    if word != "beaten" or overall.mean_difference >= SMALL_DIFFERENCE:
        return ()
    return (f"the difference is real by these tests, and below {SMALL_DIFFERENCE:g}: too small to matter",)


def _compare_classes(scores: PairedScores) -> dict[str, ClassComparison]:
    names = sorted(set(scores.class_name.tolist()))
    if len(names) < 2:
        return {}
    difference = scores.candidate - scores.baseline
    found = []
    for name in names:
        rows = scores.class_name == name
        found.append(compare(difference[rows], scores.patient[rows], np.random.default_rng(_SEED)))
    adjusted = adjust_holm([one.p_value for one in found])
    return {name: ClassComparison(one, p) for name, one, p in zip(names, found, adjusted, strict=True)}
