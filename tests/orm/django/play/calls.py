"""The operation of docs/migration-tools.md."""

from django.db import migrations


class BeforeChange(migrations.RunSQL):
    """Between this and AfterChange a migration may change an attached table. Backwards each does the work of the other."""

    def __init__(self, table):
        super().__init__(call(f"before_change('{table}')"), call(f"after_change('{table}')"))


class AfterChange(migrations.RunSQL):
    def __init__(self, table):
        super().__init__(call(f"after_change('{table}')"), call(f"before_change('{table}')"))


def call(function):
    return (
        "do $$ begin if to_regprocedure('datastream.before_change(text)') is not null then "
        f"perform datastream.{function}; end if; end $$"
    )
