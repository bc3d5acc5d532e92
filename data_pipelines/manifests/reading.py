"""How the rows of a manifest become samples, as far as a config says so. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tercet.data_pipelines.manifests.roles import Roles

CLASS_TEMPLATES = ("a photo of a {}.",)
SLOT = "{}"


@dataclass(frozen=True)
class Reading:
    """Columns, the templates that make captions of names, and where the samples are split."""

    roles: Roles = field(default_factory=Roles)
    templates: tuple[str, ...] = ()
    part: tuple[float, float] | None = None
    split_by: str = "group"
    group: str = "json.group"
    captions: Mapping[str, float] = field(default_factory=dict)

    def worded(self, captions: tuple[str, ...], folder: object) -> tuple[str, ...]:
        """The captions, or the names in them put into the templates; where there is none, the class of the folder."""
        if self.templates and captions:
            return templated(self.templates, captions)
        if captions or not isinstance(folder, str):
            return captions
        return templated(self.templates or CLASS_TEMPLATES, (folder.rpartition("/")[2],))


PLAIN = Reading()


def templated(templates: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(template.replace(SLOT, name.replace("_", " ")) for name in names for template in templates)
