"""Taking over what an earlier version has learned: rows by sign, matrices by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from dualdnn.data.row_map import RowMap
from dualdnn.data.row_match import RowMatch, matched_rows
from dualdnn.errors import DataError
from dualdnn.models.dual_dnn import TEACHER, DualDNN
from dualdnn.models.student import Student
from dualdnn.models.teacher_pool import TeacherPool
from dualdnn.schema import MAIN_TABLE, Schema
from dualdnn.training.train_step import TrainStep
from dualdnn.training.variable_names import lasting_names

# Slots of a row that are steps of its table.
_ON_THE_CLOCK = ("_decayed_to", "_born")
# In the names of the variables of a learned gate, see `TeacherPool`.
_GATE = f"/{TEACHER}/gate/"
COPIED, PARTLY, INITIALISED, DROPPED = "copied", "copied in part", "initialised", "dropped"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of one variable.

    Attributes:
        name: of the variable, slots and averages included.
        fate: `copied`; `copied in part` (rows, fields or members that both versions know);
            `initialised` (new, of another shape, or of a network that reads another embedding);
            `dropped` (the new model has no such variable).
        rows: rows that were copied; 0 for none.
        of: rows of the variable.
    """

    name: str
    fate: str
    rows: int
    of: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"name": self.name, "fate": self.fate, "rows": self.rows, "of": self.of}


def warm_start(
    train_step: TrainStep, arrays: Mapping[str, np.ndarray], *, old_schema: Schema,
    old_row_map: RowMap, new_row_map: RowMap, old_members: Sequence[str] = (),
) -> list[Taken]:
    """Copy all that means the same thing into a new model; the rest keeps its initial values.

    Rows of tables, their slots and averages are matched by sign, never by number. A matrix on the
    concatenated fields keeps the blocks of the fields that both versions have; those of new
    fields, and of an FM vector that is new, start at zero, so that the towers answer as before
    until they have learned them; an FM vector that was there takes in the small initial vectors of
    new fields at once. A learned gate keeps the
    columns of the members that both versions have; those of new members start at zero too.

    A network that has left the shared embedding for one of its own takes a copy of the rows along.
    One that comes back to the shared embedding starts anew: it knows other vectors.

    Args:
        train_step: of the new model, whose tables fit `new_row_map`.
        arrays: of the earlier version's training state.
        old_schema: that its row map was made for.
        old_row_map: its row map.
        new_row_map: for the schema of the new model.
        old_members: of the earlier version's pool of teachers, in the order of its gate's columns.

    Returns:
        what became of every variable of either version.

    Raises:
        DataError: rows have another size, or a field came to mean something else.
    """
    model = train_step.model
    schema, members = model.embedding.schema, model.members
    # States of earlier releases have the numbers that Keras counted in their process.
    names = lasting_names(model, arrays)
    arrays = {names[name]: value for name, value in arrays.items()}
    shared = [one for one in members if one in old_members]
    if members and members != list(old_members):
        arrays = {name: _by_member(value, old_members, members) if _GATE in name else value
                  for name, value in arrays.items() if shared or _GATE not in name}
    matches = matched_rows(old_row_map, old_schema, new_row_map, schema)
    found: list[Taken] = []
    used: set[str] = set()
    sources, anew = _moved(model, arrays, old_schema)
    tables = dict(_tables(model))
    for name, variable in train_step.named_variables().items():
        part, owner, _ = name.split("/", 2)
        if part == "table":
            embedding, table = tables[owner]
            found.append(_table_variable(name, variable, embedding, table, arrays, matches, used,
                                         source=sources.get(embedding, embedding)))
        elif any(sign in name for sign in anew):
            used.add(name)
            found.append(Taken(name=name, fate=INITIALISED, rows=0, of=_rows(variable)))
        else:
            fields = _fields(model, owner, old_schema, sources)
            theirs = _in_source(name, owner, sources) if fields.is_projection(name) else name
            taken = _dense_variable(name, variable, fields, arrays, used, theirs)
            if _GATE in name and taken.fate == COPIED and shared != members:
                taken = replace(taken, fate=PARTLY)
            found.append(taken)
    for name, (_, table) in tables.items():
        if name in train_step.table_optimizers:
            known = [match.new_rows for match in matches if match.new_table == table]
            optimizer = train_step.table_optimizers[name]
            optimizer.renew(np.setdiff1d(np.arange(optimizer.table.num_rows, dtype=np.int32),
                                         np.concatenate([np.zeros(0, np.int32), *known])))
    found += [Taken(name=name, fate=DROPPED, rows=0, of=len(np.atleast_1d(value)))
              for name, value in arrays.items() if name not in used]
    return found


def _by_member(value: np.ndarray, before: Sequence[str], now: Sequence[str]) -> np.ndarray:
    """The last axis of a gate's array, or of its slot, as that of the present members."""
    new = np.zeros_like(value[..., 0])
    return np.stack([value[..., before.index(one)] if one in before else new for one in now],
                    axis=-1)


def _tables(model: DualDNN) -> Iterator[tuple[str, tuple[str, str]]]:
    """By name of a table's variables the embedding and the table of the schema."""
    for embedding in model.embeddings(model.towers):
        for name, table in embedding.tables.items():
            yield table.name, (embedding.name, name)


def _moved(model: DualDNN, arrays: Mapping[str, np.ndarray],
           old_schema: Schema) -> tuple[dict[str, str], set[str]]:
    """What has left the shared embedding, and what has come back to it.

    Returns:
        by new embedding of a network that is not new the one that it used to read, and what is in
        the names of variables of networks that used to have an embedding of their own.
    """

    def existed(embedding: str) -> bool:
        return any(f"{_key(embedding, table)}steps" in arrays for table in old_schema.tables())

    shared = model.embedding.name
    networks = [(f"tower/{name}/", name, one.embeddings) for name, one in model.students.items()]
    if isinstance(model.teacher, TeacherPool):
        embeddings = model.embeddings_of(TEACHER)
        networks += [(f"/{model.teacher.name}/{one.network.name}/", one.network.name,
                      [embeddings[one.embedding]]) for one in model.teacher.towers.values()]
    sources: dict[str, str] = {}
    anew: set[str] = set()
    for sign, network, read in networks:
        names = [one.name for one in read]
        if any(sign in name for name in arrays):
            sources |= {name: shared for name in names if name != shared and not existed(name)}
        # An embedding that one network reads alone has its name.
        if network not in names and existed(network):
            anew.add(sign)
    return sources, anew


def _in_source(name: str, tower: str, sources: Mapping[str, str]) -> str:
    """The name of a field's matrix, or of its slot, in the embedding that was read before."""
    for embedding, source in sources.items():
        if f"/{embedding}_" in name:
            # The shared matrices learned with the teacher.
            return (name.replace(f"tower/{tower}/", f"tower/{TEACHER}/", 1)
                    .replace(f"/{embedding}_", f"/{source}_"))
    return name


def _table_variable(
    name: str, variable: tf.Variable, embedding: str, table: str,
    arrays: Mapping[str, np.ndarray], matches: Sequence[RowMatch], used: set[str], *, source: str,
) -> Taken:
    """Rows of an embedding from those of `source`, which it was before."""
    if not variable.shape.rank:  # a clock
        theirs = name.replace(_key(embedding, table), _key(source, table))
        return _dense_variable(name, variable, None, arrays, used, theirs)
    rows, copied = int(tf.shape(variable)[0]), 0
    for match in matches:
        if match.new_table != table:
            continue
        theirs = name.replace(_key(embedding, table), _key(source, match.old_table))
        if theirs not in arrays:
            continue
        old = arrays[theirs]
        if old.shape[1:] != tuple(variable.shape[1:]):
            raise DataError(
                f"`{name}` needs rows of {tuple(variable.shape[1:])} floats, the earlier version "
                f"has {old.shape[1:]}. Keep embedding.dim, the field's size and the table's "
                "optimizer, or train from scratch.")
        values = old[match.old_rows]
        if name.endswith(_ON_THE_CLOCK):
            # A row that changes tables takes its distance to now along.
            clocks = [_clock(source, one, arrays) for one in (match.old_table, match.new_table)]
            values = values - clocks[0] + clocks[1]
        variable.scatter_update(tf.IndexedSlices(values, match.new_rows))
        copied += len(values)
        used.add(theirs)
    fate = COPIED if copied == rows else PARTLY if copied else INITIALISED
    return Taken(name=name, fate=fate, rows=copied, of=rows)


def _clock(embedding: str, table: str, arrays: Mapping[str, np.ndarray]) -> int:
    """Steps that a table has taken; one that is new has taken none."""
    return int(arrays.get(f"{_key(embedding, table)}steps", 0))


def _key(embedding: str, table: str) -> str:
    """How the variables of a table begin, see `SharedEmbedding`."""
    owner = embedding if table == MAIN_TABLE else f"{embedding}_{table}"
    return f"table/{owner}/{owner}_"


@dataclass(frozen=True, kw_only=True)
class _Fields:
    """The fields of a tower before and now, each a block of `dim` inputs of its first layer.

    Behind them that layer reads `of_all` inputs that no field has alone: an FM vector. Before,
    these were one of `of_all_before`.
    """

    before: Sequence[str]
    now: Sequence[str]
    dim: int
    of_all: int
    of_all_before: Collection[int]
    embeddings: Sequence[str]

    def is_projection(self, name: str) -> bool:
        """Is a variable, or its slot in the optimizer, a field's matrix, see `SharedEmbedding`?"""
        return any(f"/{embedding}_{field}_kernel" in name
                   for embedding in self.embeddings for field in self.now)

    def placed(self, value: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, int] | None:
        """A matrix on the old inputs as one on the new ones, and its rows that were copied.

        None where it is another matrix, before or now.
        """
        of_all = len(value) - self.dim * len(self.before)
        if (of_all not in self.of_all_before or value.shape[1:] != shape[1:]
                or shape[0] != self.dim * len(self.now) + self.of_all):
            return None
        found = np.zeros(shape, value.dtype)
        if copied := min(of_all, self.of_all):
            found[-copied:] = value[-copied:]
        for i, name in enumerate(self.now):
            if name in self.before:
                start = self.dim * self.before.index(name)
                found[self.dim * i : self.dim * (i + 1)] = value[start : start + self.dim]
                copied += self.dim
        return found, copied


def _fields(model: DualDNN, tower: str, old_schema: Schema,
            sources: Mapping[str, str]) -> _Fields:
    dim = model.embedding.embedding_dim
    old, embeddings = old_schema.public, model.embeddings_of(tower)
    if tower == TEACHER:
        # Its networks read each of its embeddings alone, and these have the same fields.
        old, embeddings = old_schema, embeddings[:1]
    network = model.teacher if tower == TEACHER else model.students[tower].network
    is_student = isinstance(network, Student)
    first, *more = ([field.name for field in model.fields_of(tower, embedding)]
                    for embedding in embeddings)
    extra = [name for names in more for name in names]
    names = [field.name for field in old.fields]
    # Fields that had no embedding of their own stood among the others.
    apart = [] if any(one.name in sources for one in embeddings) else extra
    before = [name for name in names if name not in apart]
    return _Fields(before=before + [name for name in names if name in apart],
                   now=first + extra, dim=dim,
                   of_all=dim if is_student and network.fm is not None else 0,
                   of_all_before=(0, dim) if is_student else (0,),
                   embeddings=[one.name for one in model.embeddings_of(tower)])


def _rows(variable: tf.Variable) -> int:
    """Of a dense variable; 1 of a scalar."""
    return variable.shape[0] if variable.shape.rank else 1


def _dense_variable(name: str, variable: tf.Variable, fields: _Fields | None,
                    arrays: Mapping[str, np.ndarray], used: set[str],
                    theirs: str | None = None) -> Taken:
    """Copy a variable, whose name in the earlier version is `theirs` where that is another."""
    shape, rows = tuple(variable.shape), _rows(variable)
    theirs = theirs or name
    value = arrays.get(theirs)
    initialised = Taken(name=name, fate=INITIALISED, rows=0, of=rows)
    if value is None:
        return initialised
    used.add(theirs)
    changed = fields is not None and fields.before != fields.now and shape
    if fields is not None and (changed or value.shape != shape):
        if "_mlp/dense_0/kernel" in name:
            if (found := fields.placed(value, shape)) is None:
                return initialised
            placed, copied = found
            variable.assign(placed)
            return Taken(name=name, fate=COPIED if copied == rows else PARTLY, rows=copied, of=rows)
        # Explicit interactions, and what joins fields to the output without hidden layers, mean
        # other fields now. The matrices that project a field of a size of its own stay its own.
        of_fields = f"/{TEACHER}/" in name or ("/output/" in name and not any(
            f"/{name.split('/')[1]}/" in one and "_mlp/" in one for one in arrays))
        if changed and of_fields and "_mlp/" not in name and not fields.is_projection(name):
            return initialised
    if value.shape != shape:
        return initialised
    variable.assign(value)
    return Taken(name=name, fate=COPIED, rows=rows, of=rows)
