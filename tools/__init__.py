"""What makes pictures and tables of the documents from what they show."""
