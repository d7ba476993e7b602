"""What a user types: options in, one call, printing out."""
