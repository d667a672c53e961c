"""Every parser of what comes from outside, fed with damage: read, or refused by our error."""
