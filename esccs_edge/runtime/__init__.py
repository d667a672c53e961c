"""Samples -> answers over any backend; no backend is known here."""
