from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainables.data.store_writer import RowWriter


@pytest.mark.parametrize("dtype", ["<f4", "|u1"])
@pytest.mark.parametrize("row_shape", [(), (3,), (3, 4, 5)])
@pytest.mark.parametrize("counts", [(), (0,), (1,), (2, 0, 3)])
def test_rows_are_read_by_numpy(
    tmp_path: Path, dtype: str, row_shape: tuple[int, ...], counts: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    blocks = [rng.integers(0, 256, (count, *row_shape)).astype(dtype) for count in counts]
    with RowWriter(tmp_path / "rows.npy", dtype, row_shape) as writer:
        for block in blocks:
            writer.append(block)
    read = np.load(tmp_path / "rows.npy", mmap_mode="r" if sum(counts) else None, allow_pickle=False)
    np.testing.assert_array_equal(read, np.concatenate([np.empty((0, *row_shape), dtype), *blocks]))
    assert read.dtype == dtype


def test_rows_that_are_not_contiguous_keep_their_order(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.uint8).reshape(4, 6)[::2, ::3]
    with RowWriter(tmp_path / "rows.npy", "|u1", (2,)) as writer:
        writer.append(rows)
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), rows)


def test_a_write_that_is_broken_off_counts_no_rows(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="full"), RowWriter(tmp_path / "rows.npy", "|u1", ()) as writer:
        writer.append(np.ones(3, np.uint8))
        raise RuntimeError("full")
    assert len(np.load(tmp_path / "rows.npy")) == 0
