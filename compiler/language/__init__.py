"""From syntax to core graphs: names, axes, files and spaces checked, every error and warning found."""
