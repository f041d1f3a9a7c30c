"""Pages of the published history."""
