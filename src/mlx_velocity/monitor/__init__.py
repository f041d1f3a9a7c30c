"""What the machine and a tree of processes do while something runs: sampled, at a bounded cost."""
