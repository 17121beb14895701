"""A training joins the greedy soup only if validation does not lose by it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trainables.context import TrialContext
from trainables.evaluation.candidates import score_scales
from trainables.evaluation.greedy_soup import GROWN_AT, grow_soup
from trainables.evaluation.soup_folder import write_soup
from trainables.protocol.spec import PROTOCOLS


def test_members_join_by_what_the_soup_scores_with_them(
    context: TrialContext, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    context, names = replace(context, protocol=PROTOCOLS["box"]), context.val[:1]
    first, ruin = make_checkpoint(name="first", reach=0.01), make_checkpoint(name="ruin", reach=1.0)
    write_soup(tmp_path / "soup", [first])
    alone = {scale: each.dice for scale, each in score_scales(context, tmp_path / "soup", names, GROWN_AT).items()}
    better = {scale: dice + 0.1 for scale, dice in alone.items()}
    # Added to itself the first is what it was; the ruined one would cost nearly all.
    assert grow_soup(context, [first, ruin, first], names, "val_dice", alone) == [0, 2]
    assert grow_soup(context, [first, first], names, "val_dice", better) == [0]


def test_a_soup_counts_at_its_best_scale(
    context: TrialContext, make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    context, names = replace(context, protocol=PROTOCOLS["box"]), context.val[:1]
    members = [make_checkpoint(name="first", reach=0.01), make_checkpoint(name="ruin", reach=1.0)]
    write_soup(tmp_path / "soup", members)
    scores = {scale: each.dice for scale, each in score_scales(context, tmp_path / "soup", names, GROWN_AT).items()}
    assert max(scores, key=lambda scale: scores[scale]) < 1
    equal = dict.fromkeys(GROWN_AT, max(scores.values()))
    assert grow_soup(context, members, names, "val_dice", equal) == [0, 1]
    for scale in GROWN_AT:
        assert grow_soup(context, members, names, "val_dice", {**equal, scale: equal[scale] + 0.01}) == [0]
