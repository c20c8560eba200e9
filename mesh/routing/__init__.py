"""Who feeds whom, and whose stream a name means: decided by every node alone, from what all of them say."""
