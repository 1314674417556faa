"""How long tests wait, on whatever machine they run."""

# How many seconds a slow and busy machine may add to a promised time, and what "at once" may take.
SLACK_SECONDS = 6.0
# How long to wait, in small steps, for a condition without a promised time; only failures take it.
PATIENCE_SECONDS = 60.0
