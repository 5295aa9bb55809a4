"""Evaluation of encoders by classification on frozen features: linear probe and nearest neighbours."""
