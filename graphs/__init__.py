"""The agents that ship with Heddle. Each package here stands alone and is loaded by path."""
