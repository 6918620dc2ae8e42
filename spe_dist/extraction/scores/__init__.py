"""Scores of entities and relations: F1s, calibration, false relations and rules on types."""
