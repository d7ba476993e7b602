"""What the topic says should be in the collection, compared with what is there."""
