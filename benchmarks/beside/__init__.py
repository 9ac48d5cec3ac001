"""What the benchmarks beside nnU-Net share: cases and plans, processes and their figures, the table."""
