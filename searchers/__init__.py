"""What to try next: Optuna samplers."""
