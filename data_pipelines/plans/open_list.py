"""Opens a list of samples, whichever form it has."""

from tercet.data_pipelines.plans.list_file import ListFile
from tercet.data_pipelines.plans.list_table import ListTable, is_list_table
from tercet.data_pipelines.plans.listing import Listing
from tercet.errors import UserError


def open_list(path: str, *, part: bool = False) -> Listing:
    """`part`: the source is a part of the data. A part renumbers its samples, so ids are refused."""
    listing = ListTable(path, part=part) if is_list_table(path) else ListFile(path)
    if part and not listing.by_key:
        raise UserError(
            f"{path} lists ids, which number all samples of a source, but `part` or `held_out` takes some of "
            "them: list keys, or name the validation data as data.val"
        )
    return listing
