"""Forecasts of a symbol's daily close: Prophet's recipes, their study, the outlook."""
