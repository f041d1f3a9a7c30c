"""Whether stored files are what they should be: each by itself (files), and all together (across)."""
