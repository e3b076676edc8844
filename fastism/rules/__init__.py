"""How each layer moves a window of change: one table of rules, one file a family."""

from fastism.rules import (  # noqa: F401 (they fill the table)
    conv,
    merge,
    operations,
    pointwise,
    pooling,
    recurrent,
    reduce,
    select,
    shape,
    turned,
)
from fastism.rules.registry import RULES, Rule, rule
from fastism.rules.step import Lowered, Refuse, Step
from fastism.rules.turned import lower
from fastism.rules.user import register_rule, unregister_rule

__all__ = ["RULES", "Lowered", "Refuse", "Rule", "Step", "lower", "register_rule", "rule", "unregister_rule"]
