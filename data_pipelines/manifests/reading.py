"""How the rows of a manifest become samples, as a config says. Imports no torch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tercet.data_pipelines.captions.templates import SLOT, filled
from tercet.data_pipelines.manifests.roles import Roles

CLASS_TEMPLATES = {"image": "a photo of a {}.", "audio": "This is a sound of {}."}  # as zero-shot prompts are worded
GROUP = "json.group"


@dataclass(frozen=True)
class Reading:
    """Columns, the templates that make captions from names, and how samples are split."""

    roles: Roles = field(default_factory=Roles)
    templates: tuple[str, ...] = ()
    part: tuple[float, float] | None = None
    split_by: str | None = None
    group: str = GROUP
    captions: Mapping[str, float] = field(default_factory=dict)

    def names(self, captions: tuple[str, ...], folder: object) -> tuple[str, ...]:
        """The names that fill the templates: those in the caption column, or else the class of the folder."""
        if captions:
            return captions if self.templates else ()
        return (folder.rpartition("/")[2],) if isinstance(folder, str) else ()

    def templated(self, names: tuple[str, ...], media: Collection[str]) -> tuple[str, ...]:
        """The captions of a sample that has these media."""
        usual = (template for medium, template in CLASS_TEMPLATES.items() if medium in media)
        templates = self.templates or (next(usual, SLOT),)
        return tuple(filled(template, name.replace("_", " ")) for name in names for template in templates)


PLAIN = Reading()
