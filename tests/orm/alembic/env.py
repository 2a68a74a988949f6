import os

import models
from alembic import context
from sqlalchemy import create_engine


def include_name(name, type_, parent_names):
    if type_ == "schema":
        return name != "datastream"
    return not (type_ == "index" and name.startswith("datastream_"))


engine = create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg://"))
hooks = {} if "PLAIN" in os.environ else {"include_name": include_name}
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=models.Base.metadata, include_schemas=True, **hooks)
    with context.begin_transaction():
        context.run_migrations()
