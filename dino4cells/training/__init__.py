"""Training: DINO's loop over views, student and teacher, in one process or many."""
