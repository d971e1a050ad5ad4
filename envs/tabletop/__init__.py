"""The table-top suite: one arm, nine task families, a sentence for each episode."""
