"""What any file that someone else wrote goes through: taken from the inbox, made plain text."""
