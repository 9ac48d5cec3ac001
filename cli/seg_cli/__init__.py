"""The command line: one file a command; it asks `seg` and nothing else."""
