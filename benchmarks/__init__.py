"""Measures the costs of the pipeline, most of them as ratios to a peer: run.py writes docs/performance.md.

run.py measures the sections (sections/). Each section starts the pipeline's entry points, or a program of this folder,
as processes (commands.py) and measures them (measure.py) on generated or made-up inputs (inputs/).
"""
