"""What the race of the finalists saves, and what it costs: trainings, time, and how often it chooses as all would.

python -m benchmarks.race_power

Draws finalists whose true scores differ by an exponential spread, with seeds that scatter around them by 0.01. The
trial in the search is the better of two seeds, as it was chosen for its score. A training takes 1, and up to a tenth
less or more. Prints the tables of docs/choice.md.
"""

import numpy as np

from search.judging.race import Standing, follow_race
from search.run_folder.finalists import Finalist, SeedRun

SCATTER, N_DRAWS = 0.01, 2_000
SPREADS = (0.003, 0.01, 0.02)
SIZES = ((3, 3), (5, 3), (3, 5))
SLOTS = (1, 2, 4, 8)


def race(
    scores: np.ndarray, in_search: np.ndarray, slots: int = 1, lengths: np.ndarray | None = None
) -> tuple[int, int, float]:
    """Returns who wins of rows of scores, a column a seed, how many trainings the race took, and how long it took.

    Args:
        scores: A row a finalist, a column a seed.
        in_search: The score of each finalist's trial.
        slots: How many are trained at once.
        lengths: How long each training takes; None for 1.
    """
    lengths, now = np.ones_like(scores) if lengths is None else lengths, 0.0
    running, ended = dict[tuple[int, int], float](), set[tuple[int, int]]()
    while True:
        standing = follow(scores, in_search, ended)
        for each in standing.list_wanted(slots):
            if len(running) < slots and each not in ended:
                running.setdefault(each, now + float(lengths[each]))
        if not running:
            winner = max(standing.racing, key=lambda index: float(scores[index].mean()))
            return winner, len(ended), now
        first = min(running, key=running.__getitem__)
        now = running.pop(first)
        ended.add(first)


def follow(scores: np.ndarray, in_search: np.ndarray, ended: set[tuple[int, int]]) -> Standing:
    """Returns where the race stands after trainings, by finalist and seed."""
    runs = [
        tuple(SeedRun(seed, "", 0, value) for seed, value in enumerate(row) if (index, seed) in ended)
        for index, row in enumerate(scores)
    ]
    finalists = [Finalist(str(index), in_search[index], {}, its) for index, its in enumerate(runs)]
    return follow_race(finalists, range(scores.shape[1]), "")


def measure(n_finalists: int, n_seeds: int, spread: float, slots: int = 1) -> np.ndarray:
    """Returns means over draws: trainings, time, same choice as all trainings, losses of all trainings and the race."""
    rng, rows = np.random.default_rng(0), list[tuple[float, ...]]()
    for _ in range(N_DRAWS):
        true = rng.exponential(spread, n_finalists)
        scores = rng.normal(true[:, None], SCATTER, (n_finalists, n_seeds + 2))
        lengths = np.random.default_rng(len(rows)).uniform(0.9, 1.1, (n_finalists, n_seeds))
        winner, n_spent, time = race(scores[:, 2:], scores[:, :2].max(axis=1), slots, lengths)
        whole = int(scores[:, 2:].mean(axis=1).argmax())
        rows.append((n_spent, time, winner == whole, true.max() - true[whole], true.max() - true[winner]))
    return np.asarray(np.mean(rows, axis=0))


def main() -> None:
    """Prints a row for each spread of true scores, and then one for each number of slots."""
    print(
        "| finalists x seeds | spread of true scores | trainings | chooses as all trainings would | loss, all | loss |"
    )
    print("|---|---|---|---|---|---|")
    for n_finalists, n_seeds in SIZES:
        for spread in SPREADS:
            spent, _, same, loss_all, loss = measure(n_finalists, n_seeds, spread)
            print(f"| {n_finalists} x {n_seeds} | {spread} | {spent:.1f} | {same:.0%} | {loss_all:.4f} | {loss:.4f} |")
    print("\n| finalists x seeds | slots | trainings | time | chooses as all trainings would |\n|---|---|---|---|---|")
    for n_finalists, n_seeds in SIZES:
        for slots in SLOTS:
            spent, time, same, *_ = measure(n_finalists, n_seeds, 0.01, slots)
            print(f"| {n_finalists} x {n_seeds} | {slots} | {spent:.1f} | {time:.1f} | {same:.0%} |")


if __name__ == "__main__":
    main()
