"""Writing a built network as Python source that needs torch only, whatever block types it is made of.

`tree`       expressions, and what several of them have in common
`modules`    from a module to the expression that makes it again
`code`       the source of the classes and functions that this needs
`functions`  one function for all blocks that differ in numbers only
"""

from nas.export.source.code import Code
from nas.export.source.functions import block_functions, head_expression
from nas.export.source.modules import ModuleWriter
from nas.export.source.tree import render

__all__ = ["Code", "ModuleWriter", "block_functions", "head_expression", "render"]
