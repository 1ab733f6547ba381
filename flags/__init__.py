"""Command-line flags of `train.py` and `eval.py`; `flags.parse` turns them into configurations."""
