"""Rows of a table that a condition picks, such as `cell_type == 'DMSO' and plate != 3`.

The condition is written as for pandas' `query`, and may compare columns with values and nothing else: it is taken apart and computed here,
and never run, so that a condition from a configuration or a web form can do no harm.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dino4cells.errors import ConfigError

_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda column, values: column.isin(values),
    ast.NotIn: lambda column, values: ~column.isin(values),
}
_QUOTED: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`([^`]+)`")
_FORM: Final = "write conditions such as cell_type == 'DMSO' and dose < 3, with and, or, not, in, and backticks around names with blanks"
LONGEST: Final = 10_000


def matching_rows(table: pd.DataFrame, condition: str, option: str) -> NDArray[np.bool_]:
    """Which rows (N,) a condition picks; a row whose value is missing is picked by `!=` and `not in` alone.

    Args:
        table: columns by name.
        condition: comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not in`) of columns with texts, numbers, truth values or lists of
            them, joined by `and`, `or` and `not`.
        option: what messages call the condition.

    Raises:
        ConfigError: anything else, a column that is not there, values that cannot be compared, or no row.

    Example:
        >>> matching_rows(pd.DataFrame({"dose": [1, 2, 3]}), "dose in [1, 3]", "--controls").tolist()
        [True, False, True]
    """
    names: list[str] = []
    try:
        if len(condition) > LONGEST:
            raise ValueError("it is too long")
        tree = ast.parse(_QUOTED.sub(lambda found: _without_backticks(found, names), condition.strip()), mode="eval")
        picked = _Condition(table, names, option).rows(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is no complete comparison"
        raise ConfigError(f"{option}: '{condition[:200]}' cannot be understood ({reason}); {_FORM}.") from error
    except TypeError as error:
        raise ConfigError(
            f"{option}: '{condition[:200]}' compares a column with a value of another kind; put texts in quotes and numbers not."
        ) from error
    if not picked.any():
        raise ConfigError(f"{option}: '{condition[:200]}' picks no row of the table; correct the value.")
    return picked


def _without_backticks(found: re.Match[str], names: list[str]) -> str:
    """A name in backticks as one that Python takes; texts in quotes as they are."""
    if found[1] is None:
        return found[0]
    names.append(found[1])
    return f"_column_{len(names) - 1}_"


class _Condition:
    """The parts of a condition on a table.

    Args:
        table: columns by name.
        names: of columns that stood in backticks, by the numbers of their stand-ins.
        option: what messages call the condition.
    """

    def __init__(self, table: pd.DataFrame, names: list[str], option: str) -> None:
        self._table, self._names, self._option = table, names, option

    def rows(self, node: ast.expr) -> NDArray[np.bool_]:
        """Which rows (N,) a part picks."""
        if isinstance(node, ast.BoolOp):
            both = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(both.reduce([self.rows(value) for value in node.values]), bool)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.rows(node.operand)
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            steps = zip(sides, node.ops, sides[1:], strict=False)
            return np.asarray(np.logical_and.reduce([self._compared(*step) for step in steps]), bool)
        if isinstance(node, ast.Name):
            column = self._column(node.id)
            if pd.api.types.is_bool_dtype(column):
                return np.asarray(column, bool)
            raise ValueError(f"'{node.id}' alone says neither yes nor no")
        raise ValueError(f"'{ast.unparse(node)}' is no comparison of a column")

    def _compared(self, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> NDArray[np.bool_]:
        compare = _COMPARISONS.get(type(comparison))
        if compare is None:
            raise ValueError("'is' compares no values")
        values = [self._column(side.id) if isinstance(side, ast.Name) else _value(side) for side in (left, right)]
        wants_list = isinstance(comparison, (ast.In, ast.NotIn))
        if not any(isinstance(value, pd.Series) for value in values):
            raise ValueError(f"'{ast.unparse(left)}' is compared with no column")
        if isinstance(values[1], list) != wants_list or isinstance(values[0], list):
            raise ValueError("a list stands behind 'in' and nowhere else")
        return np.asarray(compare(*values), bool)

    def _column(self, name: str) -> Any:
        stand_in = re.fullmatch(r"_column_(\d+)_", name)
        name = self._names[int(stand_in[1])] if stand_in and int(stand_in[1]) < len(self._names) else name
        for known in (name, name.removeprefix("Metadata_")):
            if known in self._table.columns:
                return self._table[known]
        raise ConfigError(f"{self._option}: the table has no column '{name}'; it has {', '.join(map(str, self._table.columns))}.")


def _value(node: ast.expr) -> Any:
    """A text, number, truth value or list of them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float)):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        if isinstance(value, (int, float)):
            return -value
    if isinstance(node, (ast.List, ast.Tuple)) and not any(isinstance(item, (ast.List, ast.Tuple)) for item in node.elts):
        return [_value(item) for item in node.elts]
    raise ValueError(f"'{ast.unparse(node)}' is neither a column nor a value")
