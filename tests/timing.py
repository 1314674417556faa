"""How long tests wait, on whatever machine they run."""

# What a slow and busy machine may add to a time that is promised, and what it may take to do
# something "at once".
SLACK_SECONDS = 6.0
# How long to wait, in small steps, for what has no promised time; only a failure takes so long.
PATIENCE_SECONDS = 60.0
