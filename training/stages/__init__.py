"""The three training steps: teacher, auxiliaries, student."""
