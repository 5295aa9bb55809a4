"""RD4AD: `model.py` is the method, `student.py` its network (`bottleneck.py`, `decoder.py`), `loss.py` loss and map."""
