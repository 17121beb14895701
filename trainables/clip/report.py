"""Measures how often masks get the right name: accuracy, confusion matrix and F1 of each class."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

# The name of an empty mask, which shows nothing to name.
EMPTY = "(empty)"


@dataclass(frozen=True)
class NamingReport:
    """The names that several methods gave to the same masks; an item is one class prompted in one region.

    Attributes:
        clip: The CLIP model that encoded the masks.
        classes: Every class, in the data set's order.
        actual: Prompted class of each item.
        given: Method -> name given to each item; :data:`EMPTY` for an empty mask, whatever the method.
        notes: What a reader must know, one line each.
    """

    clip: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    actual: tuple[str, ...]
    given: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.actual and all(len(names) == len(self.actual) for names in self.given.values())

    @property
    def n_empty(self) -> int:
        """Number of items with an empty mask, which count as wrong."""
        return next(iter(self.given.values())).count(EMPTY)

    @property
    def most_frequent(self) -> float:
        """Accuracy of always giving the most frequent class, which a useful method must exceed."""
        return max(Counter(self.actual).values()) / len(self.actual)

    def accuracy(self, method: str) -> float:
        """Returns the share of items with the right name, in [0, 1]."""
        return float(accuracy_score(self.actual, self.given[method]))

    def f1_per_class(self, method: str) -> dict[str, float]:
        """Returns F1 in [0, 1] of each class that was prompted or given; 0 if no item was right."""
        labels = [name for name in self.classes if name in self.actual or name in self.given[method]]
        values = f1_score(self.actual, self.given[method], labels=labels, average=None, zero_division=0)
        return dict(zip(labels, map(float, values), strict=True))

    def confusion(self, method: str) -> Int64[np.ndarray, "classes names"]:
        """Returns item counts: a row per prompted class, a column per class and one for empty masks."""
        counts = confusion_matrix(self.actual, self.given[method], labels=[*self.classes, EMPTY])
        rows: Int64[np.ndarray, "classes names"] = counts[:-1].astype(np.int64)  # no item is prompted as empty
        return rows

    def to_flat(self) -> dict[str, float]:
        """Returns metrics: ``naming_<method>_accuracy``, ``..._macro_f1``, ``..._f1/<class>`` and two counts."""
        flat = {
            "naming_n_items": float(len(self.actual)),
            "naming_n_empty": float(self.n_empty),
            "naming_most_frequent_accuracy": self.most_frequent,
        }
        for method in self.given:
            f1 = self.f1_per_class(method)
            flat[f"naming_{method}_accuracy"] = self.accuracy(method)
            flat[f"naming_{method}_macro_f1"] = float(np.mean(list(f1.values())))
            flat |= {f"naming_{method}_f1/{name}": value for name, value in f1.items()}
        return flat

    def to_text(self) -> str:
        """Returns accuracy, F1 and confusion matrix of each method as plain text."""
        lines = [
            f"{len(self.actual)} masks named with features of {self.clip}; always saying the most frequent "
            f"class scores {self.most_frequent:.3f}",
            *self.notes,
        ]
        if self.n_empty:
            lines.append(f"{self.n_empty} masks are empty; they count as wrongly named")
        for method in self.given:
            f1 = self.f1_per_class(method)
            lines += ["", f"{method}: accuracy {self.accuracy(method):.3f}, macro F1 {np.mean(list(f1.values())):.3f}"]
            lines += self._draw_table(method, f1)
        return "\n".join(lines) + "\n"

    def to_confusion_csv(self, method: str) -> str:
        """Returns the confusion matrix as CSV: a row per prompted class, its counts, then its F1."""
        f1 = self.f1_per_class(method)
        table = pd.DataFrame(self.confusion(method), pd.Index(self.classes, name="prompted"), [*self.classes, EMPTY])
        table.insert(len(table.columns), "f1", [f1.get(name) for name in self.classes], allow_duplicates=True)
        return str(table.to_csv(float_format="%.6f", lineterminator="\n"))

    def to_items_csv(self) -> str:
        """Returns every item as CSV: file, class, and the name by each method."""
        items = pd.DataFrame({"file": self.files, "class": self.actual, **self.given})
        return str(items.to_csv(index=False, lineterminator="\n"))

    def _draw_table(self, method: str, f1: Mapping[str, float]) -> list[str]:
        columns = [*self.classes, EMPTY]
        wide, first = max(map(len, columns)) + 2, max(len("prompted"), *map(len, self.classes))
        lines = ["prompted".ljust(first) + "".join(name.rjust(wide) for name in columns) + "      F1"]
        for name, counts in zip(self.classes, self.confusion(method).tolist(), strict=True):
            score = f"{f1[name]:8.3f}" if name in f1 else "       -"
            lines.append(name.ljust(first) + "".join(str(count).rjust(wide) for count in counts) + score)
        return lines
