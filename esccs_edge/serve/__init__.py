"""A service over HTTP: pairs and scenes in, answers and maps out; FastAPI is imported here only."""
