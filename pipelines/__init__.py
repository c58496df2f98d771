"""The pipeline train → extract → classify: its definition, its compiled form, and how to run it on this machine."""
