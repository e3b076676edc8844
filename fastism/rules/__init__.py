"""How each layer moves a window of change: one table of rules, one file a family."""

from fastism.rules import conv, merge, operations, pointwise, pooling, reduce, select, shape  # noqa: F401 (they fill the table)
from fastism.rules.registry import RULES, Rule, lower, rule

__all__ = ["RULES", "Rule", "lower", "rule"]
