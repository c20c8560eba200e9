"""Where addresses are: databases of places, countries and what the speed of light says about claims."""
