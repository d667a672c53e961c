"""What happens when many callers ask at once."""
