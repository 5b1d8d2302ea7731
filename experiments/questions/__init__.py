"""The questions that `netkv sweep` asks, a file each: what is varied, who is compared, what the answers say.

from experiments.questions import QUESTIONS

for name, question in QUESTIONS.items():
    print(name, question.asks)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
