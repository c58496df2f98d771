"""Values of a table as the names that they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def texts_of(column: pd.Series) -> NDArray[np.object_]:
    """(N,) the value of each cell as text without blanks around it; nothing where it is missing.

    Whole numbers are written without a point: where a cell is empty, a table holds the others as 3.0, and where none is, as 3.

    Example:
        >>> texts_of(pd.Series([3.0, None, 0.5])).tolist(), texts_of(pd.Series(["3", " B "])).tolist()
        (['3', '', '0.5'], ['3', 'B'])
    """
    codes_N, values = pd.factorize(column.astype(object))
    texts = np.array([*map(_text, values), ""], dtype=object)
    return np.asarray(texts[codes_N])  # the code of what is missing is -1


def _text(value: object) -> str:
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    return str(int(value)) if whole else str(value).strip()  # type: ignore[call-overload]
