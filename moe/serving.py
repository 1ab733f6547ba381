"""The SavedModel of a trained mixture: to be run where there is TensorFlow and nothing of ours."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping

import tensorflow as tf

from moe.data.table_graph import TableGraph
from moe.errors import UserError, first_line
from moe.evaluate.predict import favourite
from moe.files import whole_folder
from moe.models.routers import Way, make_router
from moe.trained import Trained, open_trained

Answer = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def export_run(workdir: pathlib.Path) -> pathlib.Path:
    """Writes `WORKDIR/export`: the finished run under its own routing; returns the folder.

    Raises:
      UserError: the run is not finished, or cannot answer, or the disk is full.
    """
    trained = open_trained(workdir, "float32")
    model = trained.config.model
    way = make_router(model.routing, model.top_k).evaluate if trained.routes() else None
    return write_export(trained, way, workdir / "export")


def write_export(trained: Trained, way: Way | None, folder: pathlib.Path) -> pathlib.Path:
    """Writes a SavedModel, whole or not at all; returns its folder.

    Its signatures: `serving_default` from any number of raw examples to the columns of `answering`
    and to `classes`, `<string>[S, L]`, whose probabilities these are; and `names`, from nothing to
    `<string>[L]` `classes` and `<string>[E]` `experts`. Examples are `features`, see
    `Trained.input_spec`, or where the run learned from a table of texts one input a column, see
    `TableGraph.specs`, the names of which are the `columns` and `inputs` of `names`.

    Args:
      trained: in float32.
      way: who answers, and how; None where a baseline answers alone.
      folder: of the SavedModel; one that stands there is replaced.

    Raises:
      UserError: none of the networks answers by itself, or the disk is full.
    """
    served = _Served(trained, answering(trained, way))
    signatures = {
        tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: served.serve,
        "names": served.names,
    }
    try:
        with whole_folder(pathlib.Path(folder)) as aside:
            tf.saved_model.save(served, str(aside), signatures)
    except tf.errors.OpError as error:
        raise UserError(f"{folder}: cannot be written ({first_line(error)}).") from error
    return folder


def answering(trained: Trained, way: Way | None) -> Answer:
    """From a batch of raw examples, `trained.input_spec`, to what is said about them.

    The columns: `probabilities` `<float32>[S, L]`, `answer` `<int32>[S]` (a class),
    `gate_probabilities` `<float32>[S, E]` and `expert` `<int32>[S]` (the one with the highest
    weight); of a run that trained a baseline alone the first two.

    Raises:
      UserError: the run trained networks that do not answer by themselves.
    """
    mixture = trained.mixture

    def alone(features: tf.Tensor) -> dict[str, tf.Tensor]:
        log_probs = mixture.baseline_log_probs(mixture.encode(features))
        return {
            "probabilities": tf.exp(log_probs),
            "answer": tf.argmax(log_probs, axis=1, output_type=tf.int32),
        }

    def together(features: tf.Tensor) -> dict[str, tf.Tensor]:
        output = mixture.forward(features, way, reference=False)
        return {
            "probabilities": tf.exp(output.log_probs),
            "answer": output.answer,
            "gate_probabilities": tf.exp(output.gate_log_probs),
            "expert": favourite(output.routing),
        }

    return together if trained.routes() else alone


class _Served(tf.Module):
    """A function from raw examples to answers and what it needs; no Keras object is kept.

    Args:
      trained: says what an example is, and what classes and experts are called.
      answer: from `trained.input_spec`.
    """

    def __init__(self, trained: Trained, answer: Answer) -> None:
        super().__init__(name="mixture")
        spec, shape = trained.input_spec, trained.input_spec.shape[1:]
        self.table = None if trained.table is None else TableGraph(trained.table)
        called = {"classes": trained.classes, "experts": trained.groups.names}
        if self.table is not None:
            called |= {
                "columns": tuple(self.table.inputs),
                "inputs": tuple(self.table.inputs.values()),
            }

        def serve(features: tf.Tensor) -> dict[str, tf.Tensor]:
            # Networks need not know what to do with no rows at all: one of zeros keeps them going.
            size = tf.shape(features)[0]
            zeros = tf.zeros([tf.maximum(1 - size, 0), *shape], spec.dtype)
            columns = answer(tf.concat([features, zeros], axis=0))
            columns = {name: column[:size] for name, column in columns.items()}
            # A row for every example: servers that answer in rows take nothing else.
            classes = tf.constant([called["classes"]])
            return columns | {"classes": tf.repeat(classes, size, axis=0)}

        def serve_rows(cells: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return serve(self.table.features(cells))

        def names() -> dict[str, tf.Tensor]:
            return {name: tf.constant(values) for name, values in called.items()}

        function, signature = (
            (serve, spec) if self.table is None else (serve_rows, self.table.specs)
        )
        self.serve = tf.function(function, input_signature=[signature], autograph=False)
        self.names = tf.function(names, input_signature=[], autograph=False)
        self.weights = tuple(self.serve.get_concrete_function().variables)
