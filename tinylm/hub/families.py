"""The families that there are: one more is one more file, and one more name here."""

from tinylm.hub import bert, gpt2
from tinylm.hub.renaming import Family

FAMILIES: dict[str, Family] = {family.model_type: family for family in (gpt2.FAMILY, bert.FAMILY)}
