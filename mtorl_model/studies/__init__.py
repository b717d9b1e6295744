"""Studies of the model: which part of it does what, how its settings trade off, which settings are best.

No study reads a test user. `make study` and `make search` write to `LAKE/studies/dataset=.../`, `make results` turns
what stands there into docs/results.md. `mtorl_model.studies.published` is the published protocol's.
"""
