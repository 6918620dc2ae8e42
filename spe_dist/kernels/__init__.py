"""Operators with a readable definition and, later, compiled bodies."""
