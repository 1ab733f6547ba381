"""The whole configuration of a run as frozen dataclasses. No TensorFlow here."""
