"""Many runs with one command: configs x categories x seeds, in this process, in several, or on a Ray cluster."""
