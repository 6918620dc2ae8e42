"""What `spe bench` measures. Variants of a case take turns, so that whatever else the machine does hits all of them."""
