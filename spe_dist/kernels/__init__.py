"""Operators with a readable definition and compiled bodies."""
