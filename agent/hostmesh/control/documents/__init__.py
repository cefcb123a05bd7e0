"""What operators write: Istio's document kinds, read strictly, with every complaint at file:line:field."""
