"""A page that shows steering token by token, beside the plain and the prompted answer: for one person, on their own machine."""
