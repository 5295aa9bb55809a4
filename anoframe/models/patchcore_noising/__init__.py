"""PatchCore-noising: `model.py` is the method, `noise.py` the equations, `student.py` the optional student."""
