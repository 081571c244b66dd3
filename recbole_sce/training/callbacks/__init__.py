"""What happens around the steps and epochs of training."""
