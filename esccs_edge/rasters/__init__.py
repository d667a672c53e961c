"""Files on disk -> arrays in the manifest's channel order."""
