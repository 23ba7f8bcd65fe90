"""The model that is served: loaded once, run by a thread a core, and loaded anew when its folder changes.

Pictures are not gathered into batches: LiteRT embeds 8 of them at once no faster than one by one.
"""

import asyncio
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from retrain.classifier import Classifier, Guess
from retrain.errors import RetrainError
from retrain.explain import require_maps
from retrain.images import ImageError, decode
from retrain.model import identity, load_model
from retrain.options import TrustOptions, default_model_dir
from retrain.parallel import cores, one_core_each
from retrain.recipes.explaining import explain_image, to_jpeg

LOOK_EVERY_S = 1.0  # at the model's folder

log = logging.getLogger("retrain.serve")


class BusyError(RetrainError):
    """So many pictures are waiting that one more would wait too long."""

    def __init__(self):
        super().__init__("the server has too much to do.", "Try again in a second.")


class NoModelError(RetrainError):
    """There is nothing yet to guess with."""

    def __init__(self):
        super().__init__("there is no model yet.", "Train one; it is then served by itself.")


@dataclass(frozen=True)
class Served:
    """A model and its number: 1 for the first, one more for each that takes its place."""

    model: object
    version: int
    stamp: object

    def classifier(self, trust):
        """Raises RetrainError where the model cannot promise that."""
        return Classifier(self.model, trust)


class Engine:
    """Guesses for many callers at once."""

    def __init__(self, options):
        """options: ServeOptions.  Raises RetrainError where there is a model, but a damaged one."""
        self.options, self.folder = options, options.model_dir or default_model_dir()
        self.trust = TrustOptions(options.threshold, options.reject_rate, options.coverage)
        self.waiting, self._served, self._loading = 0, None, threading.Lock()
        self._threads, self._limits = ThreadPoolExecutor(cores(), "guess"), one_core_each()
        self.reload()

    @property
    def served(self):
        """The Served of now.  Raises NoModelError."""
        if self._served is None:
            raise NoModelError
        return self._served

    @property
    def version(self):
        """0 where there is no model."""
        return self._served.version if self._served else 0

    @property
    def is_current(self):
        """Whether the model in the folder is the one that is served."""
        return self._served is not None and identity(self.folder) == self._served.stamp

    def reload(self):
        """Load the model where it is another one than that served.  Raises RetrainError; the old one then stays."""
        with self._loading:
            stamp = identity(self.folder)
            if stamp is None or (self._served and self._served.stamp == stamp):
                return
            served = Served(load_model(self.folder), self.version + 1, stamp)
            served.classifier(self.trust)
            self._served = served

    async def watch(self):
        """Reload whenever the folder changes, for ever."""
        refused = None
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            stamp = identity(self.folder)
            if stamp == refused:
                continue
            before = self.version
            try:
                await asyncio.to_thread(self.reload)
            except RetrainError as error:
                refused = stamp
                log.warning("the new model is not served: %s", error)
            if self.version != before:
                log.info("version %d of the model is served", self.version)

    async def guess(self, pictures, trust=None, explain=False, served=None):
        """(Served, [(Guess, JPEG of its heat map or None)]) of encoded pictures [(name, bytes)].

        served: what the caller has looked at, for another may be served meanwhile; None: that of now.
        Raises BusyError, NoModelError, and RetrainError where the model cannot promise what trust asks for.
        """
        served = served or self.served
        classifier = served.classifier(trust or self.trust)
        if explain:
            require_maps(served.model)
        if self.waiting + len(pictures) > self.options.max_waiting:
            raise BusyError
        work, loop = partial(_explained if explain else _guessed, classifier), asyncio.get_running_loop()
        self.waiting += len(pictures)
        try:
            jobs = [loop.run_in_executor(self._threads, work, name, data) for name, data in pictures]
            return served, await asyncio.gather(*jobs)
        finally:
            self.waiting -= len(pictures)

    def close(self):
        self._threads.shutdown(cancel_futures=True)
        self._limits.restore_original_limits()


def _guessed(classifier, name, data):
    return classifier.guess_bytes(data, name), None


def _explained(classifier, name, data):
    try:
        image = decode(data)
    except ImageError as error:
        return Guess(name, error=str(error)), None
    guess = classifier.guess_image(image, name)
    return guess, to_jpeg(explain_image(classifier, image, guess.label)["heatmap"])
