"""How good a network is: proxy training and data sets."""
