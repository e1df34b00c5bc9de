"""Serves LangGraph graphs over the Agent Protocol, durable in Postgres."""
