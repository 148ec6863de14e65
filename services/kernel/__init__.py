"""Mechanisms without cloud words: time, chance, configuration, database, sagas, RPC, keys."""
