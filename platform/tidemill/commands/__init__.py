"""What the verbs of the command line do; ``tidemill.cli`` names their arguments."""
