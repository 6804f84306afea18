"""What the commands do: the loop, runs, backfills, plans, lineage, the catalogue."""
