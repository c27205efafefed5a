"""Results of the field, each as one function that shows it on a model at hand."""
