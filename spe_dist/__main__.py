"""`python -m spe_dist COMMAND …`, and the program `spe`: the one place of this package that knows the launcher."""

from launcher.cli import main

if __name__ == "__main__":
    main()
