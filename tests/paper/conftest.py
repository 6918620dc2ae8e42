import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "unit/spe_dist/batches"))  # `sentences`
