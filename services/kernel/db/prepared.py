"""Statements of busy paths: built by Core once, run by SQLite's driver alone.

Core costs some 25 us for each execution on its own, three times what SQLite needs for the statement.
A prepared statement is compiled by Core for the names of its parameters, and from then on is a text
and an order of values. On PostgreSQL, where the way to the server costs more than Core, it is plain Core.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.visitors import iterate

# `IN` lists have a text for each length up to the first figure, and for each power of two up to the second, to which
# they are filled with their last value. Longer ones are rare enough for Core's own cache.
EXACT_LIST = 8
LONGEST_LIST = 1024

_LISTS = (list, tuple)
_Named = Mapping[str, Any]
# By name or as a named tuple; a list of them runs the statement once for each.
Values = _Named | tuple[Any, ...] | list[Any]


class Rows(list[Any]):
    """Fetched rows; the part of Core's result that queries use.

    Args:
        rowcount: of an update or a delete.
    """

    def __init__(self, rows: Iterable[Any], rowcount: int) -> None:
        list.__init__(self, rows)
        self.rowcount = rowcount

    def all(self) -> Rows:
        return self

    def first(self) -> Any:
        """The first row, or None."""
        return self[0] if self else None

    def one(self) -> Any:
        """The only row. Raises NoResultFound, MultipleResultsFound."""
        if len(self) != 1:
            raise sa.exc.MultipleResultsFound if self else sa.exc.NoResultFound
        return self[0]

    def scalars(self) -> Rows:
        """The first column."""
        return Rows([row[0] for row in self], self.rowcount)

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar(self) -> Any:
        """The first column of the first row, or None."""
        return self[0][0] if self else None


class _Text(NamedTuple):
    """A statement as the driver runs it. `values` orders parameters; `row` names a fetched tuple's columns."""

    sql: str
    values: Callable[[Any], tuple[Any, ...]]
    row: Callable[[Sequence[Any]], Any]


class Prepared:
    """A statement with `bindparam`s, for `Tx.execute`. Make it once, at import."""

    def __init__(self, core: sa.Executable) -> None:
        self.core = core
        self._texts: dict[object, _Text] = {}
        parts = iterate(core) if isinstance(core, sa.ClauseElement) else ()
        self._has_lists = any(isinstance(part, sa.BindParameter) and part.expanding for part in parts)

    def run(self, driver: sqlite3.Connection, dialect: sa.Dialect, parameters: Any) -> Rows | None:
        """Run it on SQLite; None if Core must, for a list too long or empty.

        Raises:
            sqlalchemy.exc.DBAPIError: as Core would.
        """
        many = isinstance(parameters, list)
        first = (parameters[0] if many else parameters) or {}
        shape: object = type(first)
        if shape is dict and not self._has_lists:
            shape = tuple(first)
        elif not isinstance(first, tuple):
            if not many:
                parameters = first = _filled(first)
            shape = tuple(
                [(name, len(value)) if isinstance(value, _LISTS) else name for name, value in first.items()]
            )
        text = self._texts.get(shape)
        if text is None:
            lengths = [len(value) for value in _named(first).values() if isinstance(value, _LISTS)]
            if any(not 0 < length <= LONGEST_LIST for length in lengths):
                return None
            text = self._texts[shape] = _compile(self.core, dialect, first)
        try:
            if many and len(parameters) > 1:
                cursor = driver.executemany(text.sql, list(map(text.values, parameters)))
            else:
                cursor = driver.execute(text.sql, text.values(first))
            return Rows(map(text.row, cursor) if cursor.description else (), cursor.rowcount)
        except sqlite3.Error as error:
            raise sa.exc.DBAPIError.instance(
                text.sql, parameters, error, sqlite3.Error, dialect=dialect
            ) from error


def _filled(parameters: _Named) -> _Named:
    """The same parameters, with lists whose length is one of few; twice in a list is once."""
    long = {
        name: [*value, *(value[-1],) * ((1 << (len(value) - 1).bit_length()) - len(value))]
        for name, value in parameters.items()
        if value.__class__ in _LISTS and EXACT_LIST < len(value) <= LONGEST_LIST
    }
    return {**parameters, **long} if long else parameters


def for_core(parameters: Any) -> Any:
    """Parameters, or a list of them, by name."""
    return [_named(each) for each in parameters] if isinstance(parameters, list) else _named(parameters)


def _named(parameters: Any) -> Any:
    return parameters._asdict() if isinstance(parameters, tuple) else parameters  # type: ignore[attr-defined]


def _compile(core: Any, dialect: sa.Dialect, first: Any) -> _Text:
    example = _named(first)
    compiled = core.compile(dialect=dialect, column_keys=list(example))
    whole = compiled.construct_expanded_state(dict(example))
    at = {
        inner: (name, index)
        for name, inners in whole.parameter_expansion.items()
        for index, inner in enumerate(inners)
    }
    if example is not first and whole.parameter_expansion:
        raise TypeError("what follows IN is given by name: its length is part of the text")
    if any(not isinstance(example[name], _LISTS) for name in whole.parameter_expansion):
        raise TypeError("what follows IN must be a list or a tuple: its length is part of the text")
    names = whole.positiontup or ()
    fixed = {name: whole.parameters[name] for name in names if name not in example}
    take = itemgetter if example is first else attrgetter
    if len(names) > 1 and not at and not fixed:
        return _Text(whole.statement, take(*names), _namer(compiled))
    return _Text(whole.statement, _ordered(names, at, fixed), _namer(compiled))


def _ordered(
    names: Sequence[str], at: Mapping[str, tuple[str, int]], fixed: _Named
) -> Callable[[Any], tuple[Any, ...]]:
    """Takes a statement's values, in its order, out of its parameters, lists and constants."""

    def values(parameters: Any) -> tuple[Any, ...]:
        given = _named(parameters)
        return tuple(
            [
                given[at[name][0]][at[name][1]]
                if name in at
                else fixed[name]
                if name in fixed
                else given[name]
                for name in names
            ]
        )

    return values


def _namer(compiled: Any) -> Callable[[Sequence[Any]], Any]:
    """Makes a named row of a fetched tuple, with Core's types (SQLite has no booleans)."""
    columns = compiled._result_columns  # noqa: SLF001 - the only place that has both names and types
    named = namedtuple("Row", [column.keyname for column in columns], rename=True)  # type: ignore[misc]  # noqa: PYI024
    make = partial(tuple.__new__, named)  # as `_make` does, without a Python frame for each row
    flags = [index for index, column in enumerate(columns) if isinstance(column.type, sa.Boolean)]
    if not flags:
        return make

    def row(fetched: Sequence[Any]) -> Any:
        values = list(fetched)
        for index in flags:
            if values[index] is not None:
                values[index] = values[index] == 1
        return make(values)

    return row
