"""The waypoint: a real Envoy, programmed from Istio's documents and supervised."""
