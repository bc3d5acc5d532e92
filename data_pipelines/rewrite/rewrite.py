"""Writes further captions of the samples of a dataset into a sidecar: a language model's, or what rules make."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b

from xxhash import xxh3_64_intdigest

from tercet.data_pipelines.captions.rules.wrong import WrongCaptions
from tercet.data_pipelines.captions.sidecar import KEY, Row
from tercet.data_pipelines.rewrite.cache import AnswerCache
from tercet.data_pipelines.rewrite.captioned import Captioned
from tercet.data_pipelines.rewrite.config import RewriteConfig
from tercet.data_pipelines.rewrite.model import LanguageModel, NoAnswer
from tercet.data_pipelines.rewrite.tasks import ONLY_A_LIST, Task
from tercet.data_pipelines.seeding import keyed
from tercet.data_pipelines.workers.in_order import in_order
from tercet.errors import UserError

USABLE_TRIES = 3  # how often a model may answer with something that is not a list
HOPELESS = 16  # requests without an answer, one after the other, after which the command stops


@dataclass
class Counts:
    """Captions by what became of them, with the reasons for those without a usable answer.

    `cached`: answered earlier. `bad`: the answers cannot be used. `failed`: there was no answer. `rows`: lines written.
    """

    cached: int = 0
    answered: int = 0
    bad: int = 0
    failed: int = 0
    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        return self.cached + self.answered + self.bad + self.failed

    @property
    def missing(self) -> float:
        """The share of captions without usable answers."""
        return (self.bad + self.failed) / max(self.done, 1)


Watch = Callable[[Counts], None]  # gets the counts after each answer


@dataclass(frozen=True)
class Outcome:
    """Of one request: how many of its captions were answered, and what happened to the others."""

    answered: int
    bad: int = 0
    failed: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Question:
    """A caption to be asked about. `hash`: of all that decides the answer."""

    hash: str
    prompt: str
    right: tuple[str, ...]


class Rewriting:
    """Asks a model about every caption that has no answer in the cache, several at a time."""

    def __init__(self, task: Task, model: LanguageModel, cache: AnswerCache, config: RewriteConfig) -> None:
        self._task, self._model, self._cache, self._config = task, model, cache, config
        self._in_a_row = 0  # requests without an answer
        self.counts = Counts()

    def run(self, samples: Iterable[Captioned], watch: Watch = lambda counts: None) -> Iterator[Row]:
        """The lines of the sidecar, in the order of the samples, once all are answered."""
        hashes: dict[str, str] = {}
        # a local model has the batch to itself; requests to an endpoint wait for the network
        threads = 1 if self._model.batch > 1 else self._config.concurrency
        with ThreadPoolExecutor(threads, thread_name_prefix="rewrite") as pool:
            batches = self._batches(self._new(samples, hashes))
            for outcome in in_order(self._ask, batches, pool, 2 * threads):
                self._count(outcome)
                watch(self.counts)
        if self.counts.failed and self.counts.failed == self.counts.done:
            self._stop(next(iter(self.counts.reasons)))
        for key, hash in hashes.items():
            captions = self._cache.get(hash) if hash in self._cache else None
            if captions:
                self.counts.rows += 1
                yield {KEY: key, **self._task.row(captions)}

    def _new(self, samples: Iterable[Captioned], hashes: dict[str, str]) -> Iterator[Question]:
        """Those without an answer. Samples with the same captions share one."""
        asked: set[str] = set()
        for sample in samples:
            question = self._question(sample)
            hashes[sample.key] = question.hash
            if question.hash in asked:
                continue
            asked.add(question.hash)
            if question.hash not in self._cache:
                yield question
            elif self._cache.get(question.hash) is not None:
                self.counts.cached += 1
            elif self._config.retry_bad:
                yield question
            else:
                self.counts.bad += 1

    def _question(self, sample: Captioned) -> Question:
        prompt = self._task.ask(sample.right[0])
        decides = [prompt, self._task.name, self._task.count, sorted(sample.right), dict(self._model.identity)]
        digest = blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=16).hexdigest()
        return Question(digest, prompt, sample.right)

    def _batches(self, questions: Iterable[Question]) -> Iterator[list[Question]]:
        batch: list[Question] = []
        for question in questions:
            batch.append(question)
            if len(batch) == self._model.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def _ask(self, batch: list[Question]) -> Outcome:
        """Asks the model, again if an answer is not a list, and writes each answer to the cache at once."""
        count = len(batch)
        for attempt in range(USABLE_TRIES):
            try:
                answers = self._model.complete([one.prompt + (ONLY_A_LIST if attempt else "") for one in batch])
            except NoAnswer as error:
                return Outcome(count - len(batch), failed=len(batch), reason=str(error))
            unusable = []
            for question, answer in zip(batch, answers, strict=True):
                captions = self._task.read(answer, question.right)
                if captions is None:
                    unusable.append(question)
                else:
                    self._cache.add(question.hash, captions)
            batch = unusable
            if not batch:
                return Outcome(count)
        for question in batch:
            self._cache.add(question.hash, None)
        return Outcome(count - len(batch), bad=len(batch), reason="not a list of new captions")

    def _count(self, outcome: Outcome) -> None:
        """Stops where one request after the other has no answer."""
        counts = self.counts
        counts.answered += outcome.answered
        counts.bad += outcome.bad
        counts.failed += outcome.failed
        if outcome.reason:
            counts.reasons[outcome.reason] += outcome.bad + outcome.failed
        self._in_a_row = self._in_a_row + 1 if outcome.failed else 0
        if self._in_a_row >= HOPELESS:
            self._stop(outcome.reason)

    def _stop(self, reason: str) -> None:
        raise UserError(
            f"{self._model.name}: {self._in_a_row} requests in a row got no answer, the last because: {reason}. "
            f"{len(self._cache):,} answers are kept in {self._cache.path}; the same command goes on from there"
        )


def by_rule(samples: Iterable[Captioned], config: RewriteConfig) -> Iterator[Row]:
    """What rules make of each sample's first caption. A sample to which no rule applies has no line."""
    wrong = WrongCaptions(config.rules, config.tagger)
    for sample in samples:
        dice = keyed("rewrite", config.seed, item=xxh3_64_intdigest(sample.key.encode("utf-8", "surrogatepass")))
        made = wrong(sample.right[0], sample.right, config.count or len(config.rules), dice)
        if made:
            yield {KEY: sample.key, "negatives": [{"kind": one.kind, "text": one.text} for one in made]}
