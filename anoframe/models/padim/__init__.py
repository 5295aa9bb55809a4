"""PaDiM: `model.py` is the method, `statistics.py` the means and covariances, `whitening.py` the distances."""
