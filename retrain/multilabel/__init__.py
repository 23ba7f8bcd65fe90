"""Pictures with several labels each: their data, a head of one yes or no a label, and its measures."""
