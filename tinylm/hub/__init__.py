"""The way in and out: directories as Hugging Face's `save_pretrained` writes them."""

from tinylm.hub.downloads import download
from tinylm.hub.fields import HubError, HubWarning
from tinylm.hub.pretrained import Answer, Pretrained
from tinylm.hub.reading import from_pretrained
from tinylm.hub.writing import save_pretrained

__all__ = [
    "Answer",
    "HubError",
    "HubWarning",
    "Pretrained",
    "download",
    "from_pretrained",
    "save_pretrained",
]
