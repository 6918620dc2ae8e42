"""Real processes, disturbed as clusters disturb them."""
