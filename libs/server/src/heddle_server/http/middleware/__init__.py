"""Pure ASGI layers around the application: nothing here knows what a run is."""
