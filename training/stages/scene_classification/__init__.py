"""The stages of scene classification: teacher, SAR auxiliary, optical auxiliary, student."""
