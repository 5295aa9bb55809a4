"""PatchCore: `model.py` is the method, `coreset.py` the selection of the bank, `reweighting.py` the image score."""
