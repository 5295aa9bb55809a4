"""Components that two or more methods use."""
