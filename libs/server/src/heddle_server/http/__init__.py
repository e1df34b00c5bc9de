"""The HTTP floor: FastAPI, and nothing below it but use cases."""
