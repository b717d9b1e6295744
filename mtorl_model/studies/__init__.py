"""Studies of the model: the effect of its parts, its settings and its corrections, and the search for settings.

No study reads a test user, except the published protocol (published.py), which does not separate users. `make study`
and `make search` write to `LAKE/<dataset>/studies/`, `make results` turns these files into docs/results.md.
"""
