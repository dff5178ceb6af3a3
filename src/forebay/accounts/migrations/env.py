"""What Alembic runs to bring the tables up: inside the connection that it is given."""

from alembic import context

from forebay.accounts.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
    version_table=VERSION_TABLE,
)
context.run_migrations()
