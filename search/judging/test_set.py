"""Scores a candidate and zero-shot on the test regions, records the opening, and compares them pair by pair."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.judging.openings import add_opening, describe_openings, find_opening, locate_test_scores
from search.judging.paired_scores import pair_scores
from search.judging.verdict import Verdict, judge, read_verdict
from search.run_folder.score_table import format_score, tabulate, write_scores
from search.run_folder.search_record import SearchRecord
from trainables.context import TrialContext
from trainables.evaluation.candidates import Candidate
from trainables.protocol.scores import Scores
from trainables.protocol.spec import require_same_protocol


@dataclass(frozen=True)
class HeldOutResult:
    """What came of opening the test regions: which opening it was, from 1, both Dice, the floor, and all pairs' file.

    The verdict's notes say what a reader must know.
    """

    opening: int
    candidate_dice: float
    zeroshot_dice: float
    floor: float
    verdict: Verdict
    file: Path


ScoreAll = Callable[[Sequence[tuple[TrialContext, Path | None, Sequence[str], float]]], list[Scores]]


def score_on_test(
    folder: Path, record: SearchRecord, candidate: Candidate, label: str, score_all: ScoreAll, is_resumed: bool = False
) -> HeldOutResult:
    """Scores a candidate and zero-shot on the test regions of a search.

    Its folder gets ``scores_test.csv``, or ``scores_test_2.csv`` and so on.

    Args:
        label: The candidate in words, by which the list of openings identifies it.
        score_all: Calls :func:`trainables.evaluation.candidates.score_candidate` with each tuple of arguments.
        is_resumed: Whether a last opening of the same candidate is this one; if not, it is so only if it was stopped
            before its scores were written.

    Raises:
        ProtocolMismatch: If the two were not scored under one protocol.
    """
    # Recorded first: a run that dies in between has looked, or may have.
    context, names = record.context, record.split["test"]
    number = find_opening(folder, label, context.protocol.id)
    if not number or not is_resumed and locate_test_scores(folder, number).exists():
        number = add_opening(folder, label, context.protocol.id)
    found, zeroshot = score_all([(context, candidate.checkpoint, names, candidate.scale), (context, None, names, 1.0)])
    caveats = [*record.caveats, *filter(None, [describe_openings(number)])]
    require_same_protocol(found.protocol, zeroshot.protocol)
    file = locate_test_scores(folder, number)
    marks = {"test_opening": str(number), "caveats": "; ".join(caveats)}
    write_scores(file, {"winner": found, "zeroshot": zeroshot}, marks)
    verdict = read_verdict(file, found.protocol.is_auto, caveats)
    return HeldOutResult(number, found.dice, zeroshot.dice, found.floor, verdict, file)


def judge_pairs(candidate: Scores, baseline: Mapping[tuple[str, str], float], names: tuple[str, str]) -> Verdict:
    """Compares a model with a baseline on the same (image, class) pairs.

    Args:
        candidate: Scores of the model.
        baseline: Dice of exactly its pairs, by image and class.
        names: Names of the model and of the baseline.
    """
    table = tabulate({names[0]: candidate})
    # As its file holds it: whoever judges that has the same verdict.
    pairs = list(zip(table["file"], table["class"], strict=True))
    assert set(pairs) == set(baseline)
    table[names[1]] = [baseline[pair] for pair in pairs]
    for name in names:
        table[name] = [float(format_score(dice)) for dice in table[name]]
    return judge(pair_scores(table, *names))
