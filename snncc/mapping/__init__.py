"""From spike graphs to pieces on cores."""
