"""A model for use elsewhere: one file a format."""
