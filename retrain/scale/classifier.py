"""A classifier whose embeddings an engine computes; what they mean is told here, as it always is."""

from retrain.classifier import Guess, Guesser
from retrain.parallel import one_core_each


class SpreadClassifier(Guesser):
    """Guesses as the classifier does, by embeddings that come from elsewhere."""

    def __init__(self, classifier, embed, reader):
        """embed: as `open_embedding` returns it."""
        self.classifier, self.labels, self.is_multilabel = classifier, classifier.labels, classifier.is_multilabel
        self.embed, self.reader = embed, reader

    def guess_image(self, image, path="-"):
        return self.classifier.guess_image(image, path)

    def guess_files(self, paths):
        """Yield a Guess for each file, in order.  A bad file is a Guess with an error."""
        with one_core_each():  # the others compute embeddings
            for row in self.embed(map(str, paths), self.classifier.model.backbones, self.reader):
                if row.error:
                    yield Guess(row.name, error=str(row.error))
                else:
                    yield self.classifier.guess_parts([part[None] for part in row.parts], row.name)
