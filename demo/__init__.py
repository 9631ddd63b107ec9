"""The one-command story: the whole bookstore on one machine, and the thief who gets nothing."""
