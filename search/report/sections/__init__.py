"""The sections of the page, each in a module of its own with its figures: `section` makes it of what it shows."""
