"""RAML: `model.py` is the method; `crops.py` cuts images, `network.py` scores their features, `loss.py` trains it."""
