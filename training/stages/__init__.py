"""One stage of a run, whatever the task: its loop, its checkpoints, its seeds."""
