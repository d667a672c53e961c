"""Command line."""


def main() -> None:
    """Placeholder, replaced below."""
