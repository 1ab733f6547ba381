"""A mixture-of-experts framework for classification, in TensorFlow.

Start with `moe.types`, `moe.routing`, `moe.train.step` and `moe.train.loop`.
"""

__version__ = "0.1.0"
