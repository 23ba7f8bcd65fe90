"""What users ask for, each recipe on one screen: its steps in the order of their doing."""
