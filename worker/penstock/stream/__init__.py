"""What both workers share: the loop over a topic, the overlap of stages, and retries."""
