"""What the steps do, how it lies on disk, what runs it and what shows it."""
