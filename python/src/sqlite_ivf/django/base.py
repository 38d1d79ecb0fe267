"""Django's SQLite backend with the extension: `"ENGINE": "sqlite_ivf.django"`.

The mixins make the same of another backend of SQLite: `class DatabaseWrapper(IvfMixin, other.DatabaseWrapper)`.
"""

from __future__ import annotations

import copy
from typing import Any, List

from django.db.backends.sqlite3 import base
from django.db.backends.sqlite3.introspection import DatabaseIntrospection as _Introspection
from django.db.backends.sqlite3.schema import DatabaseSchemaEditor as _SchemaEditor

from ..loading import load
from . import IvfIndex, IvfStatement


class IvfSchemaMixin:
    """Django makes a table anew to change it, which drops its triggers. This makes the indexes anew, too."""

    connection: Any

    def ivf_indexes(self, model: Any) -> List[Any]:
        """The indexes of a model that are in the database."""
        return [self._named(each, model) for each in model._meta.indexes if isinstance(each, IvfIndex) and self._there(each)]

    def _named(self, index: Any, model: Any) -> Any:
        """The index with the names that its fields have now: `RenameField` leaves the old ones in the state of a migration."""
        names = {field.column: field.name for field in model._meta.local_fields}
        if set(index.fields) <= set(names.values()):
            return index
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pragma_table_info(%s)", [index.name])
            columns = [row[0] for row in cursor.fetchall()]
        named = copy.copy(index)
        named.fields_orders = [(names.get(column, name), order) for column, (name, order) in zip(columns, index.fields_orders)]
        named.fields = [name for name, _ in named.fields_orders]
        return named

    def _there(self, index: Any) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = %s COLLATE NOCASE", [index.name])
            return cursor.fetchone() is not None

    def execute(self, sql: Any, params: Any = ()) -> None:
        """Runs the statements of an index one by one."""
        if not isinstance(sql, IvfStatement):
            super().execute(sql, params)  # type: ignore[misc]
            return
        for each in sql.statements():
            super().execute(each, None)  # type: ignore[misc]

    def delete_model(self, model: Any, *args: Any, **kwargs: Any) -> None:
        """Drops the indexes first."""
        for index in self.ivf_indexes(model):
            self.execute(index.remove_sql(model, self))
        super().delete_model(model, *args, **kwargs)  # type: ignore[misc]

    def alter_db_table(self, model: Any, old_db_table: str, new_db_table: str, *args: Any, **kwargs: Any) -> None:
        """An index knows its table by name."""
        indexes = self.ivf_indexes(model)
        for index in indexes:
            self.execute(index.remove_sql(model, self))
        super().alter_db_table(model, old_db_table, new_db_table, *args, **kwargs)  # type: ignore[misc]
        for index in indexes:
            self.execute(index.create_sql(model, self))

    def alter_field(self, model: Any, old_field: Any, new_field: Any, strict: bool = False) -> None:
        """And its columns."""
        indexes = []
        if old_field.column != new_field.column:
            indexes = [each for each in self.ivf_indexes(model) if old_field.primary_key or old_field.name in each.fields]
        for index in indexes:
            self.execute(index.remove_sql(model, self))
        super().alter_field(model, old_field, new_field, strict)  # type: ignore[misc]
        for index in indexes:
            if not self._there(index):  # it is, where Django made the table anew
                renamed = copy.copy(index)
                renamed.fields_orders = [
                    (new_field.name if name == old_field.name else name, order) for name, order in index.fields_orders
                ]
                self.execute(renamed.create_sql(new_field.model, self))


class IvfIntrospectionMixin:
    """Leaves out what is part of an index or of a virtual table, as for `inspectdb`."""

    def get_table_list(self, cursor: Any) -> List[Any]:
        """The tables of models."""
        tables: List[Any] = super().get_table_list(cursor)  # type: ignore[misc]
        cursor.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow' UNION ALL "
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE % USING ivf(%, content=%'"
        )
        own = {row[0] for row in cursor.fetchall()}
        return [each for each in tables if each.name not in own]


class IvfMixin:
    """Loads the extension into each connection."""

    def get_new_connection(self, conn_params: Any) -> Any:
        """A connection with the extension."""
        connection = super().get_new_connection(conn_params)  # type: ignore[misc]
        load(connection)
        return connection


class DatabaseSchemaEditor(IvfSchemaMixin, _SchemaEditor):
    """That of Django's backend."""


class DatabaseIntrospection(IvfIntrospectionMixin, _Introspection):
    """That of Django's backend."""


class DatabaseWrapper(IvfMixin, base.DatabaseWrapper):
    """That of Django's backend."""

    SchemaEditorClass = DatabaseSchemaEditor
    introspection_class = DatabaseIntrospection
