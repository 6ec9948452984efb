"""Crypto candles: files, REST and simulator in; daily series, signals and statistics out."""
