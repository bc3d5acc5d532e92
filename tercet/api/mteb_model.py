"""`tercet.mteb_model`: a model as an encoder of MTEB, for scripts that call `mteb.evaluate` themselves."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tercet.api.data import run_of
from tercet.api.model import Loadable, load
from tercet.errors import UserError, did_you_mean
from tercet.modality import is_negative, modality_of
from tercet.training.config import RunConfig

if TYPE_CHECKING:
    from tercet.api.mteb_encoder import Encoder

KINDS = ("query", "document")  # of texts, as MTEB names them


def mteb_model(model: Loadable, dims: int | None = None, prefixes: Mapping[str, str] | None = None) -> "Encoder":
    """A model as MTEB calls it: `mteb.evaluate(tercet.mteb_model("runs/mine"), mteb.get_task("Winoground"))`.

    `dims` cuts all vectors to their first dimensions. `prefixes` are put before texts: `{"query": "query: ",
    "document": "passage: "}`. By default they are those that the run was trained with. Texts that are neither queries
    nor documents get the prefix of queries.
    """
    needs_mteb()
    from tercet.api.mteb_encoder import Encoder

    found = load(model, dims=dims)
    given = prefixes_of(run_of(found.name)) if prefixes is None else dict(prefixes)
    for kind in given:
        if kind not in KINDS:
            raise UserError(f"prefixes: `{kind}` is not a kind of text; {did_you_mean(kind, KINDS)}")
    return Encoder(found, given)


def needs_mteb() -> None:
    if find_spec("mteb") is None:
        raise UserError("MTEB is not installed; pip install 'tercet[mteb]'")


def prefixes_of(run: RunConfig | None) -> dict[str, str]:
    """What a run put before its captions, and before the texts that its terms compare them with."""
    if run is None:
        return {}
    captions = {source.prefix for source in run.data.train.values()}
    compared = [name for term in run.terms for name in term.between if name in run.fields]
    texts = [name for name in compared if modality_of(name) == "text" and not is_negative(name)]
    documents = {run.fields[name].prefix for name in texts}
    query = captions.pop() if len(captions) == 1 else ""
    document = documents.pop() if len(documents) == 1 else query
    return {kind: prefix for kind, prefix in zip(KINDS, (query, document), strict=True) if prefix}
