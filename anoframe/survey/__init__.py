"""Survey of encoders: several encoders, each evaluated by classification and in detectors, over seeds, in one table."""
