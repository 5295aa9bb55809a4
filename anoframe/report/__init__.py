"""Reports as single HTML files: of a run, of several runs side by side, and of a grid."""
