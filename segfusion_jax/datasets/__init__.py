"""What the images are: official collections read, checked, grouped and kept as records."""
