"""What the networks are and what they learn from: encoders, losses, information regulation."""
