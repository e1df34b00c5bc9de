from tests.support.queue_fixtures import postgres

__all__ = ["postgres"]
