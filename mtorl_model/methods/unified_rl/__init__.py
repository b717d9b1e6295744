"""UnifiedRL (IntegratedRL-MTF, arXiv 2404.17589): weights that fuse several predictions into one ranking score."""

METHODS = {"unified_rl": "mtorl_model.methods.unified_rl.method"}
