"""What the pipeline costs, as ratios to a peer that is measured beside it: see run.py, and docs/performance.md."""
