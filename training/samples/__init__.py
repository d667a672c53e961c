"""Raw pairs -> degraded, normalized samples."""
