"""Use of a trained model: recommendations and vectors."""
