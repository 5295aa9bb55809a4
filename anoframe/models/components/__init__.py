"""Components that several methods use."""
