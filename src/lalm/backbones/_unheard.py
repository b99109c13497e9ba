"""Languages that a connector does not know, asked of its plug-in."""

from __future__ import annotations

from lalm.plugins import configure
from lalm.plugins import load as load_plugin
from lalm.sections import PluginChoice


def connector_unheard(language: str, choice: PluginChoice) -> list[str]:
    """What a connector says of a language (`unheard`); empty if it knows it, or says nothing."""
    module = load_plugin("connectors", choice.name)
    if not hasattr(module, "unheard"):
        return []
    said = module.unheard(language, configure(module, choice.options, "backbone.connector"))
    return [said] if said else []
