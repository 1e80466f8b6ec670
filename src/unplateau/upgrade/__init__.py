"""Better extractors: several teachers distilled into one student."""
