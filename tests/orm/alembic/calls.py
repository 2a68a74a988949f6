"""The helper of docs/migration-tools.md."""

from alembic import op


def before_change(table):
    op.execute(
        "do $$ begin if to_regprocedure('datastream.before_change(text)') is not null then "
        f"perform datastream.before_change('{table}'); end if; end $$"
    )


def after_change(table, options="{}"):
    op.execute(
        "do $$ begin if to_regprocedure('datastream.after_change(text, jsonb)') is not null then "
        f"perform datastream.after_change('{table}', $options${options}$options$); end if; end $$"
    )
