"""Methods: the folder `models/<name>/` with a `model.py`, or the file `models/<name>.py`, is the method `<name>`."""
