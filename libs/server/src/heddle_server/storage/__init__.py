"""All SQL. The only importer of SQLAlchemy and asyncpg in the server."""
