"""What users saw: one file a kind of fault, its symptom in the first line."""
