"""The methods, one folder each: `models/<name>/model.py` is the method `<name>`."""
