"""Export of trained detectors to ONNX, OpenVINO and torch.export; the reader is `anoframe.deploy`."""
