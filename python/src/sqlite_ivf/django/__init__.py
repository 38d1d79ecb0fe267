"""Django: vectors as a field, an index in `Meta.indexes`, searches as querysets: docs/django.md.

`"ENGINE": "sqlite_ivf.django"` in `DATABASES` is Django's SQLite backend with the extension loaded. Then:

    class Doc(models.Model):
        title = models.TextField()
        year = models.IntegerField()
        embedding = VectorField(dim=384, null=True)

        objects = IvfManager()

        class Meta:
            indexes = [IvfIndex(fields=["embedding", "year"], metric="cosine")]

    Doc.objects.filter(year__gt=2020).nearest("embedding", vector, k=10)
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

try:
    from django.core import checks
    from django.core.exceptions import FieldError, FullResultSet
    from django.db import NotSupportedError, models
    from django.db.backends.ddl_references import Statement, Table
    from django.db.models.expressions import Col, Expression, Func, ResolvedOuterRef, Subquery
    from django.db.models.lookups import Exact, Lookup
    from django.db.models.sql.query import Query
    from django.db.models.sql.where import AND, WhereNode
except ImportError as error:
    raise ImportError(f"sqlite_ivf.django needs Django 4.2 or newer ({error}): pip install 'sqlite-ivf[django]'") from error

from .._store import OPTIONS, SETTINGS, check_vector, metadata_kind, vector_blob, vector_value
from ..table import _literal, _plain, _text_of, quoted

__all__ = ["Distance", "IvfIndex", "IvfManager", "IvfQuerySet", "VectorField"]

_METRICS = ("l2", "cosine", "ip")
_ELEMENTS = ("float32", "float16", "bfloat16", "int8")
_MARKS = {"float16": "vec_f16", "bfloat16": "vec_bf16", "int8": "vec_int8"}
#: SQLite leaves so many conditions to a virtual table.
_CONDITIONS = 16
#: Lookups that are part of a search on a column of the index.
_LOOKUPS = ("exact", "gt", "gte", "lt", "lte", "in", "range", "isnull")


class VectorField(models.Field):
    """A vector of `dim` numbers, stored as its bytes.

    Values are what `serialize_float32` takes, or the bytes. `element` is float32, float16, bfloat16 or int8. `result` says what
    a model has that was read: "numpy", "memoryview" or "list".
    """

    description = "Vector"
    empty_strings_allowed = False

    def __init__(self, *args: Any, dim: Any = None, element: str = "float32", result: str = "numpy", **kwargs: Any) -> None:
        self.dim, self.element, self.result = dim, element, result
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)

    def check(self, **kwargs: Any) -> List[Any]:
        """Django's system check."""
        errors: List[Any] = super().check(**kwargs)
        try:
            check_vector(self.dim, self.element, self.result)
            if self.element not in _ELEMENTS:
                raise ValueError(f"element is one of {', '.join(_ELEMENTS)}, got {self.element!r}")
        except ValueError as error:
            errors.append(checks.Error(f"VectorField: {error}", obj=self, id="sqlite_ivf.E001"))
        return errors

    def deconstruct(self) -> Tuple[str, str, List[Any], Dict[str, Any]]:
        """For migrations."""
        name, path, args, kwargs = super().deconstruct()
        kwargs["dim"] = self.dim
        for option, default in (("element", "float32"), ("result", "numpy")):
            if getattr(self, option) != default:
                kwargs[option] = getattr(self, option)
        if kwargs.get("editable") is False:
            del kwargs["editable"]
        elif self.editable:
            kwargs["editable"] = True
        return name, path, args, kwargs

    def db_type(self, connection: Any) -> str:
        """The type of the column."""
        return "BLOB"

    def from_db_value(self, value: Any, *_: Any) -> Any:
        """Bytes to a vector."""
        return None if value is None else vector_value(value, self.element, self.result)

    def get_prep_value(self, value: Any) -> Any:
        """The bytes that lookups compare: Django compares a lookup's value itself, which an array refuses."""
        value = super().get_prep_value(value)
        if value is None or hasattr(value, "as_sql") or hasattr(value, "resolve_expression"):
            return value
        return bytes(vector_blob(self.to_python(value), self.dim, self.element))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """A vector to bytes."""
        return value if value is None or hasattr(value, "as_sql") else vector_blob(self.to_python(value), self.dim, self.element)

    def to_python(self, value: Any) -> Any:
        """Of JSON, as fixtures and forms have it."""
        return json.loads(value) if isinstance(value, str) else value

    def value_to_string(self, obj: Any) -> str:
        """For fixtures."""
        value = self.value_from_object(obj)
        listed = None if value is None else vector_value(vector_blob(value, self.dim, self.element), self.element, "list")
        return json.dumps(listed)


class Distance(Func):
    """The distance of each row to a vector, computed without an index: `order_by(Distance("embedding", vector, "cosine"))`."""

    output_field = models.FloatField()

    def __init__(self, expression: Any, vector: Any, metric: str = "l2", **extra: Any) -> None:
        if metric not in (*_METRICS, "l1"):
            raise ValueError(f"metric is one of {', '.join(_METRICS)}, l1, got {metric!r}")
        self.vector, self.metric = vector, metric
        super().__init__(expression, **extra)

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> Tuple[str, List[Any]]:
        """The call of the function."""
        field = self.source_expressions[0].output_field
        sql, params = compiler.compile(self.source_expressions[0])
        mark = _MARKS.get(field.element, "")
        blob = bytes(vector_blob(self.vector, field.dim, field.element))
        return f"vec_distance_{self.metric}({mark}({sql}), {mark}(%s))", [*params, blob]


class IvfStatement(Statement):
    """Several statements, which the backend's schema editor runs one by one."""

    def statements(self) -> List[str]:
        """Each of them."""
        return str(self).split(";\n")


class IvfIndex(models.Index):
    """An index over the vectors of a model: an ivf table with the index's name, which triggers keep up to date.

    The first of `fields` is a `VectorField`, the others are those by which searches filter. `partition_key` names those among
    them that partition the index. `metric` is l2 (the default), cosine or ip; `options` are `nlist`, `train_at`, `nprobe`,
    `model` and so on. Changing any of these in the model makes the index anew, by a migration.
    """

    suffix = "ivf"

    def __init__(
        self,
        *,
        fields: Sequence[str] = (),
        name: Optional[str] = None,
        metric: str = "l2",
        partition_key: Sequence[str] = (),
        **options: Any,
    ) -> None:
        if metric not in _METRICS:
            raise ValueError(f"metric is one of {', '.join(_METRICS)}, got {metric!r}")
        accepted = (*OPTIONS, "model")
        for option in options:
            if option not in accepted:
                raise TypeError(f"IvfIndex: unknown argument {option!r}, expected one of {', '.join(accepted)}")
        self.metric, self.options = metric, options
        self.partition_key = [partition_key] if isinstance(partition_key, str) else list(partition_key)
        for each in self.partition_key:
            if each not in fields[1:]:
                raise ValueError(f"partition_key: {each!r} is none of the fields to filter by, {list(fields[1:])}")
        super().__init__(fields=fields, name=name or "")

    def deconstruct(self) -> Tuple[str, Tuple[Any, ...], Dict[str, Any]]:
        """For migrations."""
        path, args, kwargs = super().deconstruct()
        kwargs.update(self.options)
        if self.metric != "l2":
            kwargs["metric"] = self.metric
        if self.partition_key:
            kwargs["partition_key"] = self.partition_key
        return path, args, kwargs

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **_: Any) -> Any:
        """The statements that make the index and fill it."""
        if not hasattr(schema_editor, "ivf_indexes"):
            raise NotSupportedError(f"index {self.name!r}: IvfIndex needs the database engine 'sqlite_ivf.django'")
        key = model._meta.pk
        if key.get_internal_type() not in ("AutoField", "BigAutoField", "SmallAutoField", "IntegerField", "BigIntegerField"):
            raise FieldError(f"index {self.name!r}: the primary key of {model._meta.label} is a {type(key).__name__}, not a number")
        columns: List[str] = []
        for name, order in self.fields_orders:
            field = model._meta.get_field(name)
            if not columns and not isinstance(field, VectorField):
                raise FieldError(f"index {self.name!r}: the first field is a VectorField, got {name!r}, a {type(field).__name__}")
            if not columns:
                columns.append(f"{quoted(field.column)} {field.element}[{field.dim}] distance_metric={self.metric}")
                continue
            kind = metadata_kind(field.db_type(schema_editor.connection) or "")
            if kind is None or order:
                raise FieldError(f"index {self.name!r}: searches cannot filter by {order}{name!r}, a {type(field).__name__}")
            columns.append(f"{quoted(field.column)} {kind}{' PARTITION KEY' if name in self.partition_key else ''}")
        options = [f"{name}={_literal(value) if name == 'model' else value}" for name, value in self.options.items()]
        named = quoted(self.name)
        taken = self.name.lower() in [field.column.lower() for field in model._meta.fields]
        return IvfStatement(
            "CREATE VIRTUAL TABLE %(name)s USING ivf(%(columns)s, content=%(table)s, content_rowid=%(key)s);\n"
            "SELECT ivf_triggers(%(literal)s, 'create');\n"
            "INSERT INTO %(name)s(%(command)s) VALUES ('rebuild')",
            table=Table(model._meta.db_table, schema_editor.quote_name),
            name=named,
            columns=", ".join([*columns, *options]),
            key=quoted(key.column),
            literal=_literal(self.name),
            command=quoted(f"{self.name}_command" if taken else self.name),
        )

    def remove_sql(self, model: Any, schema_editor: Any, **_: Any) -> Any:
        """The statements that drop it, and its triggers first: without the table they would fail every write."""
        return IvfStatement(
            "SELECT ivf_triggers(%(literal)s, 'drop');\nDROP TABLE %(name)s",
            table=Table(model._meta.db_table, schema_editor.quote_name),
            name=quoted(self.name),
            literal=_literal(self.name),
        )


class _Search(Expression):
    """The keys of the rows that a search finds: a subquery on the index."""

    def __init__(self, index: IvfIndex, column: str, blob: bytes, asked: Dict[str, Any], lookups: Any, keys: Any) -> None:
        super().__init__(output_field=models.BigIntegerField())
        self.index, self.column, self.blob, self.asked, self.lookups, self.keys = index, column, blob, asked, lookups, keys

    def as_sql(self, compiler: Any, connection: Any) -> Tuple[str, List[Any]]:
        table = quoted(self.index.name)
        conditions, params = [f"{table}.{quoted(self.column)} MATCH %s"], [self.blob]
        for name, value in self.asked.items():
            conditions.append(f"{table}.distance <= %s" if name == "within" else f"{table}.{name} = %s")
            params.append(value)
        for lookup in self.lookups:
            moved = lookup.relabeled_clone({lookup.lhs.alias: self.index.name})
            try:
                if isinstance(lookup.rhs, bool) and isinstance(lookup, Exact):  # Django writes a bare column: tested later
                    sql, values = compiler.compile(moved.lhs)
                    sql, values = f"{sql} = %s", [*values, int(lookup.rhs)]
                else:
                    sql, values = compiler.compile(moved)
            except FullResultSet:  # it is always true: raised further, the caller would leave out the whole search
                continue
            conditions.append(sql)
            params += values
        if self.keys is not None:
            sql, values = self.keys.get_compiler(connection=connection).as_sql()
            conditions.append(f"{table}.rowid IN ({sql})")
            params += values
        return f"(SELECT {table}.rowid FROM {table} WHERE {' AND '.join(conditions)})", params


class IvfQuerySet(models.QuerySet):
    """A queryset that searches."""

    def nearest(
        self,
        field: str,
        vector: Any,
        k: Optional[int] = None,
        *,
        where: Any = None,
        within: Optional[float] = None,
        per: Union[str, Tuple[str, int], None] = None,
        mmr: Union[float, str, None] = None,
        model: Optional[str] = None,
        index: Optional[str] = None,
        distance: str = "distance",
        **settings: Any,
    ) -> Any:
        """The `k` rows of this queryset that are nearest to a vector, or those within a distance, nearest first.

        What the queryset filters by before is part of the search; `where`, a dict or a `Q`, is the same. What it filters by
        afterwards is applied to the rows that were found. `distance` names the annotation with their distances. `per`, a field of
        the index, `mmr` and `model` are those of docs/sql.md; `settings` are `nprobe`, `recall_target` and so on.
        """
        for name in settings:
            if name not in SETTINGS:
                raise TypeError(f"nearest: unknown argument {name!r}, expected one of {', '.join(SETTINGS)}")
        if k is None and within is None:
            raise TypeError("nearest: k or within is expected, got none of them")
        found = self._index(field, index)
        queryset = self if where is None else self.filter(where) if isinstance(where, models.Q) else self.filter(**where)
        column = self.model._meta.get_field(field)
        blob = bytes(vector_blob(vector, column.dim, column.element))
        within = _plain(within)
        if within is not None and (isinstance(within, bool) or not isinstance(within, (int, float, Decimal))):
            raise ValueError(f"nearest: within: a number is expected, got {within!r}")
        if per is not None:
            per = self._per(per, found)
        given = {name: _plain(value) for name, value in settings.items() if value is not None}
        asked = {
            "k": _plain(k), "within": float(within) if isinstance(within, Decimal) else within, "per": per,
            "mmr": None if mmr is None else str(mmr), "model": model, "params": _text_of(given) or None,
        }  # fmt: skip
        asked = {name: value for name, value in asked.items() if value is not None}
        if _outer(queryset.query.where):
            raise ValueError(
                "nearest: a search is made once, not for each row of an outer query: filter by OuterRef after the search"
            )
        lookups, all_are = _pushed(queryset.query, found.fields[1:], _CONDITIONS - 2 - len(asked))  # with MATCH and the keys
        keys = None if all_are else queryset.order_by().values("pk").query
        search = _Search(found, column.column, blob, asked, lookups, keys)
        annotation = {distance: Distance(field, blob, found.metric)}
        if keys is not None:
            queryset = _once(queryset)
        return queryset.filter(pk__in=search).annotate(**annotation).order_by(distance, "pk")

    def _per(self, per: Any, index: IvfIndex) -> str:
        name, count = (per, 1) if isinstance(per, str) else per if isinstance(per, (tuple, list)) and len(per) == 2 else (None, 1)
        if name is None:
            raise ValueError(f"nearest: per: a field or (field, a whole number) is expected, got {per!r}")
        fields = {each: self.model._meta.get_field(each) for each in index.fields[1:]}
        fields.update({each.attname: each for each in fields.values()})
        if name not in fields:
            listed = ", ".join(index.fields[1:])
            raise FieldError(f"nearest: per is one of {listed}, the fields of {index.name!r}, got {name!r}")
        count = _plain(count)
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"nearest: per: a whole number from 1 is expected beside {name!r}, got {count!r}")
        return f"{fields[name].column}:{count}"

    def _index(self, field: str, name: Optional[str]) -> IvfIndex:
        indexes = [each for each in self.model._meta.concrete_model._meta.indexes if isinstance(each, IvfIndex)]
        for each in indexes:
            if each.fields[0] == field and name in (None, each.name):
                return each
        listed = ", ".join(f"{each.name} of {each.fields[0]!r}" for each in indexes) or "none"
        which = f"index {name!r} of {field!r}" if name else f"IvfIndex of {field!r}"
        raise FieldError(f"nearest: {self.model._meta.label} has no {which}, its own are: {listed}")


class IvfManager(models.Manager.from_queryset(IvfQuerySet)):  # type: ignore[misc]
    """A manager with `nearest`."""


def _outer(node: Any) -> bool:
    """Whether a condition refers to an outer query."""
    if isinstance(node, ResolvedOuterRef):
        return True
    if isinstance(node, (Query, Subquery)):  # what is inside refers to this query
        return False
    within = node.children if isinstance(node, WhereNode) else getattr(node, "get_source_expressions", list)()
    return any(_outer(each) for each in within)


def _pushed(query: Any, names: Sequence[str], most: int) -> Tuple[List[Any], bool]:
    """The conditions that the index's columns answer, `most` of them, and whether these are all."""
    where = query.where
    if where.negated or where.connector != AND:
        return [], not where
    lookups = [
        each
        for each in where.children
        if isinstance(each, Lookup)
        and each.lookup_name in _LOOKUPS
        and isinstance(each.lhs, Col)
        and each.lhs.alias == query.base_table
        and each.lhs.target.name in names
        and each.rhs_is_direct_value()
    ]
    taken = []
    for each in lookups:
        most -= 2 if each.lookup_name == "range" else 1  # SQLite makes two of BETWEEN
        if most >= 0:
            taken.append(each)
    return taken, len(taken) == len(where.children)


def _once(queryset: Any) -> Any:
    """The queryset without its conditions, where these join several rows to one: each key that is found is a row once."""
    query = queryset.query

    def many(aliases: Any) -> bool:
        fields = [getattr(query.alias_map[alias], "join_field", None) for alias in aliases]
        return any(isinstance(field, models.ForeignObjectRel) and not field.one_to_one for field in fields)

    joined = [alias for alias in query.alias_map if query.alias_refcount[alias]]
    if query.group_by is not None or not many(joined):
        return queryset
    needed = {query.base_table}
    for expression in (*query.select, *query.annotations.values()):
        needed |= {each.alias for each in expression.flatten() if isinstance(each, Col)}
    for alias in reversed(joined):  # a join comes after the one that it hangs on
        if alias in needed:
            needed.add(query.alias_map[alias].parent_alias or query.base_table)
    if many(needed):  # rows of the others are asked for
        return queryset
    queryset = queryset._chain()
    queryset.query.clear_where()
    for alias in joined:
        if alias not in needed:
            queryset.query.alias_refcount[alias] = 0
    return queryset
