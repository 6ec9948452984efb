"""How good a model is, told so that nobody is fooled: folds, baselines, ledger, leak guard."""
