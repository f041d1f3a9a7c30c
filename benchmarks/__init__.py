"""asv benchmark classes, one file per stage of a language model."""
