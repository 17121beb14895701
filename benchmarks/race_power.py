"""What the race of the finalists saves, and what it costs: trainings spent, and how often it chooses as all would.

python -m benchmarks.race_power

Draws finalists whose true scores differ by an exponential spread, with seeds that scatter around them by 0.01. The
trial in the search is the better of two seeds, as it was chosen for its score. Prints the table of docs/choice.md.
"""

import numpy as np

from search.judging.race import mark_hopeless
from search.run_folder.finalists import Finalist, SeedRun

SCATTER, N_DRAWS = 0.01, 2_000
SPREADS = (0.003, 0.01, 0.02)


def race(scores: np.ndarray, in_search: np.ndarray) -> tuple[int, int]:
    """Returns who wins of rows of scores, a column a seed, and how many trainings the race took."""
    n_seeds, n_spent, racing = scores.shape[1], 0, list(range(len(scores)))
    for n_done in range(1, n_seeds + 1):
        n_spent += len(racing)
        runs = {each: tuple(SeedRun(0, "", 0, value) for value in scores[each, :n_done]) for each in racing}
        finalists = [Finalist(str(each), in_search[each], {}, runs[each]) for each in racing]
        racing = [int(each.trial_id) for each in mark_hopeless(finalists, n_seeds, "") if not each.out]
    return max(racing, key=lambda each: float(scores[each].mean())), n_spent


def main() -> None:
    """Prints a row for each number of finalists and seeds, and each spread of true scores."""
    print(
        "| finalists x seeds | spread of true scores | trainings | chooses as all trainings would | loss, all | loss |"
    )
    print("|---|---|---|---|---|---|")
    for n_finalists, n_seeds in ((3, 3), (5, 3), (3, 5)):
        for spread in SPREADS:
            rng, rows = np.random.default_rng(0), []
            for _ in range(N_DRAWS):
                true = rng.exponential(spread, n_finalists)
                scores = rng.normal(true[:, None], SCATTER, (n_finalists, n_seeds + 2))
                winner, n_spent = race(scores[:, 2:], scores[:, :2].max(axis=1))
                whole = int(scores[:, 2:].mean(axis=1).argmax())
                rows.append((n_spent, winner == whole, true.max() - true[whole], true.max() - true[winner]))
            spent, same, loss_all, loss = np.mean(rows, axis=0)
            print(f"| {n_finalists} x {n_seeds} | {spread} | {spent:.1f} | {same:.0%} | {loss_all:.4f} | {loss:.4f} |")


if __name__ == "__main__":
    main()
