"""Arrays written to .npy files as they come, row by row, for more data than memory holds."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Shaped

Rows = Shaped[np.ndarray, "rows ..."]

_HEADER_BYTES = 192  # a multiple of 64, as the format asks, with room for any shape


class RowWriter:
    """Writes an .npy file row by row, so that the number of rows may stay open until the end.

    A context manager: the file holds the number of rows once it is left without an exception. Plain writes
    rather than a writable memory map: on a full disk they raise, where a map kills the process.
    """

    def __init__(self, path: Path, dtype: str, row_shape: tuple[int, ...]) -> None:
        """Opens the file, over one that stands there.

        Args:
            path: The file.
            dtype: Of the values, in NumPy's notation (``<f4``).
            row_shape: Shape of one row; ``()`` for a flat array of any length.
        """
        self._dtype, self._row_shape, self._rows = np.dtype(dtype), row_shape, 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, rows: Rows) -> None:
        """Appends [rows, *row_shape] values."""
        assert rows.shape[1:] == self._row_shape and rows.dtype == self._dtype
        self._file.write(np.ascontiguousarray(rows).data)
        self._rows += len(rows)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._write_header()

    def _write_header(self) -> None:
        shape = (self._rows, *self._row_shape)
        descr = np.lib.format.dtype_to_descr(self._dtype)
        text = repr({"descr": descr, "fortran_order": False, "shape": shape})
        header = text.ljust(_HEADER_BYTES - 11) + "\n"  # of one length, whatever the number of rows
        assert len(header) == _HEADER_BYTES - 10
        self._file.seek(0)
        self._file.write(np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header.encode())
