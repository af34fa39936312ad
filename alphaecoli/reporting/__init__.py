"""The page that `python -m alphaecoli.report` writes: its facts, its tracks, its HTML."""
