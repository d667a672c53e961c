"""Learn: teacher, auxiliaries, student."""
