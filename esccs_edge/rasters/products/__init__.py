"""Satellite products as they are downloaded -> named, dated, georeferenced bands."""
