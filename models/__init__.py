"""Models: networks and losses behind the modes that training and testing call."""
