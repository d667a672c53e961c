"""Pictures of inputs and answers."""
