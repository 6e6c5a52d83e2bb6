"""What a visitor of the demo does to a picture, without the page: every method of :class:`Editor` makes a new
:class:`Session` from one, and changes nothing else. So visitors cannot see each other, and going back is free."""
import dataclasses
import functools
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from data import class_colors, collate
from data.instance_maps import main_classes
from editing.uploads import MOST_INSTANCES, Upload, check_instances
from models.batches import Batch
from models.layout_styles import LayoutStyles, numpy_styles
from models.networks.styles import Styles
from models.synthesis import Synthesizer
from util.errors import UserError

WHOLE = -1  # stands for the image-level vector z where instances are named
MOST_STEPS = 40  # that can be undone
MOST_POINTS = 2000  # of a stroke
THUMBNAIL = 96  # pixels: height


@dataclass(frozen=True)
class Canvas:
    """A layout of the network's size: class ids and instance ids [H, W], int32."""

    label: np.ndarray
    instance: np.ndarray

    def instances(self) -> dict[int, int]:
        """Instance id -> class, ids ascending."""
        return main_classes(self.label, self.instance)


@dataclass(frozen=True)
class Drawn:
    """The styles of a layout before truncation, on the CPU.

    :param styles: z [1, z_dim] and noise [1, K, 2, noise_nc].
    :param spread: [K + 1], what truncation multiplies the noise of each instance by, and last z; NaN for what is of a
        photo, or mixed with it: that is used as it is.
    """

    styles: Styles
    spread: Tensor

    def truncated(self) -> Styles:
        """The styles that the network gets."""
        spread = self.spread.nan_to_num(1.0)
        return Styles(self.styles.z * spread[-1], self.styles.noise * spread[:-1, None, None])

    def replaced(self, others: "Drawn", rows: Sequence[int]) -> "Drawn":
        """With those of ``others`` for some instances; ``WHOLE`` is z."""
        styles, spread = self.styles.exchange(others.styles, [row for row in rows if row != WHOLE]), self.spread.clone()
        spread[list(rows)] = others.spread[list(rows)]
        return Drawn(Styles(others.styles.z, styles.noise) if WHOLE in rows else styles, spread)

    def resized(self, count: int, others: "Drawn") -> "Drawn":
        """For ``count`` instances: without the last ones, or with the further ones of ``others``."""
        noise = torch.cat([self.styles.noise, others.styles.noise[:, self.styles.noise.shape[1]:]], 1)[:, :count]
        spread = torch.cat([self.spread[:-1], others.spread[len(self.spread) - 1:-1]])[:count]
        return Drawn(Styles(self.styles.z, noise), torch.cat([spread, self.spread[-1:]]))

    def between(self, others: "Drawn", share: float) -> "Drawn":
        """``share`` of the way to ``others``: 0 is here, 1 is there."""
        if share in (0, 1):
            return others if share else self
        different = (self.spread != others.spread) & ~(self.spread.isnan() & others.spread.isnan())
        rows = [WHOLE if row == len(different) - 1 else row for row in different.nonzero()[:, 0].tolist()]
        # where only one side is truncated, what lies between them is no multiple of either
        start, end = (styles.replaced(Drawn(styles.truncated(), torch.full_like(self.spread, torch.nan)), rows)
                      for styles in (self, others))
        return Drawn(start.styles.between(end.styles, share), end.spread)


@dataclass(frozen=True)
class Step:
    """A picture [H, W, 3] uint8, and what made it.

    :param before: the styles that a blend goes back to; None where there are none for this layout.
    :param blend: where between them and ``styles`` the picture is; 1: at ``styles``.
    :param truncation: of what is drawn from the prior and was not locked.
    """

    what: str
    canvas: Canvas
    styles: Drawn
    before: Drawn | None = None
    blend: float = 1.0
    truncation: float = 1.0
    picture: np.ndarray | None = None

    @functools.cached_property
    def thumbnail(self) -> bytes:
        """The picture, small, as a WebP file."""
        image, target = Image.fromarray(self.picture), io.BytesIO()
        image.thumbnail((2 * THUMBNAIL, THUMBNAIL))
        image.save(target, "WEBP")
        return target.getvalue()

    def bytes(self) -> int:
        """Of memory; what it shares with other steps is counted in each."""
        arrays = (self.picture, self.canvas.label, self.canvas.instance)
        styles = (drawn.styles for drawn in (self.styles, self.before) if drawn)
        return sum(array.nbytes for array in arrays) + sum(one.z.nbytes + one.noise.nbytes for one in styles)

    def current(self) -> Drawn:
        return self.styles if self.before is None else self.before.between(self.styles, self.blend)


@dataclass(frozen=True)
class Session:
    """All that the demo knows of a visitor.

    :param steps: the history, at least one; the picture is that of ``steps[position]``, later ones can be redone.
    :param locked: instances whose styles stay.
    :param uploads: what was uploaded, by kind; ``refused``: what was wrong with the last one of a kind.
    """

    steps: tuple[Step, ...]
    position: int = 0
    locked: frozenset[int] = frozenset()
    uploads: Mapping[str, Upload] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def step(self) -> Step:
        return self.steps[self.position]

    @property
    def can_blend(self) -> bool:
        return self.step.before is not None

    def go_to(self, position: int) -> "Session":
        """Undo or redo up to a step of the history.

        :raises UserError: there is no such step.
        """
        if not 0 <= position < len(self.steps):
            raise UserError("there is no such step in the history")
        return self if position == self.position else self._with(position=position)

    def undo(self) -> "Session":
        return self.go_to(max(self.position - 1, 0))

    def redo(self) -> "Session":
        return self.go_to(min(self.position + 1, len(self.steps) - 1))

    def toggle_lock(self, instance: int) -> "Session":
        """Lock an instance, or unlock it.

        :raises UserError: there is no such instance.
        """
        if instance not in self.step.canvas.instances():
            raise UserError(f"the layout has no instance {instance}")
        return dataclasses.replace(self, locked=self.locked ^ {instance})

    def with_upload(self, kind: str, upload: Upload) -> "Session":
        return dataclasses.replace(self, uploads={**self.uploads, kind: upload}, refused={**self.refused, kind: ""})

    def with_refusal(self, kind: str, reason: str) -> "Session":
        """``reason``: what is wrong with a file of this kind, which was not taken."""
        return dataclasses.replace(self, refused={**self.refused, kind: reason})

    def bytes(self) -> int:
        """Of memory, about."""
        return sum(step.bytes() for step in self.steps) + sum(file.pixels.nbytes for file in self.uploads.values())

    def _with(self, **changes) -> "Session":
        session = dataclasses.replace(self, **changes)
        return dataclasses.replace(session, locked=session.locked & session.step.canvas.instances().keys())

    def add(self, step: Step) -> "Session":
        """``step`` as the next one of the history, in place of those that were undone."""
        steps = (*self.steps[:self.position + 1], step)[-MOST_STEPS:]
        return self._with(steps=steps, position=len(steps) - 1)

    def replace_step(self, step: Step) -> "Session":
        """``step`` in place of the present one."""
        return self._with(steps=(*self.steps[:self.position], step, *self.steps[self.position + 1:]))


class Editor:
    """Makes sessions with the networks of a synthesizer (INADE), which all visitors share.

    :param names: class id -> name, where it is known.
    """

    def __init__(self, synthesizer: Synthesizer, names: dict[int, str]):
        opt = synthesizer.opt
        self.synthesizer, self.opt, self._names, self.colors = synthesizer, opt, names, class_colors(opt)
        self.has_instances = not opt.no_instance
        self.has_encoder = synthesizer.model.netE is not None

    def name(self, kind: int) -> str:
        """What to call a class."""
        return self._names.get(kind, "don't care" if kind == self.opt.label_nc else f"class {kind}")

    # ---- layouts ----

    def blank(self, kind: int = 0) -> Canvas:
        """A layout of one class alone."""
        label = np.full(self.opt.image_size, kind, np.int32)
        return Canvas(label, label if not self.has_instances else np.zeros_like(label))

    def canvas(self, batch: Batch) -> Canvas:
        """That of a layout."""
        return Canvas(*(ids[0].cpu().numpy().astype(np.int32) for ids in (batch.layout.label, batch.layout.instance)))

    def start(self, canvas: Canvas) -> Session:
        """A new visitor, who sees a sample of this layout."""
        return Session((self._open(canvas, "sample", 1.0),))

    def open(self, session: Session, canvas: Canvas, what: str) -> Session:
        """Another layout, in newly drawn styles.

        :raises UserError: it has too many instances.
        """
        check_instances(canvas.instance, what, max(MOST_INSTANCES, self.opt.num_classes))
        return dataclasses.replace(session, locked=frozenset()).add(self._open(canvas, what, session.step.truncation))

    def paint(self, session: Session, kind: int, radius: float, points: list[tuple[float, float]],
              new_instance: bool = True) -> Session:
        """A stroke of the brush.

        :param kind: class id.
        :param radius: of the brush, in pixels of the layout.
        :param points: (x, y) in pixels, along which it goes.
        :param new_instance: or else the stroke belongs to the instance it starts in, if that is of the class.
        :raises UserError: not such a stroke, or too many instances.
        """
        step = session.step
        height, width = step.canvas.label.shape
        if not (0 <= kind < self.opt.num_classes and 0 < radius <= max(height, width) and 0 < len(points) <= MOST_POINTS
                and np.isfinite(points).all() and np.abs(points).max() < 2**15):
            raise UserError("that is no stroke of a brush: a class, a radius and up to "
                            f"{MOST_POINTS} points are needed")
        mask = stroke(height, width, radius, points)
        if not mask.any():
            return session
        label, instance = step.canvas.label.copy(), step.canvas.instance.copy()
        x, y = (int(np.clip(value, 0, side - 1)) for value, side in zip(points[0], (width, height), strict=True))
        if not self.has_instances and np.array_equal(label, instance):  # one style for each class
            number, is_new = kind, kind not in instance
        elif is_new := new_instance or label[y, x] != kind:
            taken = set(np.unique(instance[~mask]).tolist())
            number = next((i for i in range(MOST_INSTANCES) if i not in taken), None)
            if number is None:
                raise UserError(f"there are {MOST_INSTANCES} instances already; undo some, or paint over them")
        else:
            number = int(instance[y, x])
        label[mask], instance[mask] = kind, number
        canvas = Canvas(label, instance)
        sample = self._sample(canvas, step.truncation)
        styles = step.current().resized(len(sample.spread) - 1, sample)
        if is_new:
            styles = styles.replaced(sample, [number])
            session = dataclasses.replace(session, locked=session.locked - {number})
        what = f"{self.name(kind)} painted"
        return session.add(self._draw(Step(what, canvas, styles, truncation=step.truncation)))

    # ---- styles ----

    def resample(self, session: Session, instance: int | None = None) -> Session:
        """Newly drawn styles for one instance, for z (``WHOLE``), or (None) for all that is not locked. z belongs to
        the whole picture: it stays while anything is locked.

        :raises UserError: the layout has no such instance, or it is locked.
        """
        step = session.step
        instances = step.canvas.instances()
        if instance is None:
            rows = [i for i in instances if i not in session.locked] + ([] if session.locked else [WHOLE])
            what = "all but the locked" if session.locked else "sample"
        elif instance == WHOLE:
            rows, what = [WHOLE], "z"
        elif instance not in instances:
            raise UserError(f"the layout has no instance {instance}")
        elif instance in session.locked:
            raise UserError(f"{self.name(instances[instance])} is locked: unlock it to give it another style")
        else:
            rows, what = [instance], self.name(instances[instance])
        return self._change(session, what, self._sample(step.canvas, step.truncation), rows)

    def take_styles(self, session: Session, photo: Batch, what: str) -> Session:
        """The styles that the encoder sees in a photo (of one layout), for all instances that are not locked and have
        a partner there: the same one where the layouts are the same, else one of their class, by size.

        :raises UserError: no encoder, or no class of the photo is in the picture.
        """
        seen = self.synthesizer.reference(photo)
        partners = LayoutStyles.of(self._batch(session.step.canvas).layout).partners(seen)
        rows = [i for i in partners if i not in session.locked]
        if not rows:
            raise UserError(f"{what}: nothing in the picture that is not locked has a class of this photo's layout")
        current = session.step.current()
        noise, spread = current.styles.noise.clone(), current.spread.clone()
        noise[0, rows] = torch.from_numpy(seen.mu[[partners[i] for i in rows]])
        spread[rows] = torch.nan
        return self._change(session, what, Drawn(Styles(current.styles.z, noise), spread), rows)

    def blend(self, session: Session, share: float) -> Session:
        """The picture between the styles before the last change (0) and after it (1)."""
        share = float(np.clip(share, 0, 1))
        if not session.can_blend or share == session.step.blend:
            return session
        return session.replace_step(self._draw(dataclasses.replace(session.step, blend=share)))

    def truncate(self, session: Session, truncation: float) -> Session:
        """Another truncation: all that is drawn from the prior and not locked moves towards, or away from, the mean."""
        truncation = float(np.clip(truncation, 0, 2))
        step, free = session.step, [i for i in session.step.canvas.instances() if i not in session.locked]

        def scaled(styles: Drawn) -> Drawn:
            spread = styles.spread.clone()
            rows = [row for row in (*free, *([] if session.locked else [WHOLE])) if not spread[row].isnan()]
            spread[rows] = truncation
            return dataclasses.replace(styles, spread=spread)

        before = None if step.before is None else scaled(step.before)
        step = dataclasses.replace(step, styles=scaled(step.styles), before=before, truncation=truncation)
        return session.replace_step(self._draw(step))

    # ---- files ----

    def download(self, session: Session) -> bytes:
        """A ZIP file of the present picture: picture.png; label.png in the data set's colours, but its pixels are ids;
        instances.png where the network reads such; styles.npz for --style_file of test.py."""
        step, target = session.step, io.BytesIO()
        label = Image.fromarray(step.canvas.label.astype(np.uint8 if self.opt.num_classes <= 256 else np.uint16))
        if self.opt.num_classes <= 256:
            label.putpalette(self.colors.tobytes())
        images = {"picture": Image.fromarray(step.picture), "label": label}
        if self.has_instances:
            instance = step.canvas.instance
            images["instances"] = Image.fromarray(instance.astype(np.uint8 if instance.max() < 256 else np.uint16))
        styles = LayoutStyles.of(self._batch(step.canvas).layout, **numpy_styles(self._given(step)))
        with zipfile.ZipFile(target, "w") as archive:
            for name, image in images.items():
                with archive.open(f"{name}.png", "w") as file:
                    image.save(file, "PNG")
            with archive.open("styles.npz", "w") as file:
                styles.write_to(file)
        return target.getvalue()

    # ---- how ----

    def _open(self, canvas: Canvas, what: str, truncation: float) -> Step:
        return self._draw(Step(what, canvas, self._sample(canvas, truncation), truncation=truncation))

    def _sample(self, canvas: Canvas, truncation: float) -> Drawn:
        styles = self.synthesizer.draw_styles(self._batch(canvas)).map(Tensor.cpu)
        return Drawn(styles, torch.full((styles.noise.shape[1] + 1,), truncation))

    def _batch(self, canvas: Canvas) -> Batch:
        """As it is: a canvas has the network's size and ids already, and the rows of its styles go by those ids."""
        label, instance = (torch.from_numpy(ids)[None] for ids in (canvas.label, canvas.instance))
        label = label if self.opt.num_classes > 256 else label.byte()
        return self.synthesizer.prepare(collate([{"label": label, "instance": instance, "path": "layout"}]))

    def _change(self, session: Session, what: str, others: Drawn, rows: Sequence[int]) -> Session:
        step, before = session.step, session.step.current()
        styles = before.replaced(others, rows)
        return session.add(self._draw(Step(what, step.canvas, styles, before, truncation=step.truncation)))

    def _given(self, step: Step) -> Styles:
        return step.current().truncated().map(lambda value: value.to(self.opt.device))

    def _draw(self, step: Step) -> Step:
        picture = self.synthesizer.pictures(self._batch(step.canvas), self._given(step))[0]
        return dataclasses.replace(step, picture=picture)


def stroke(height: int, width: int, radius: float, points: list[tuple[float, float]]) -> np.ndarray:
    """The pixels [H, W] bool that a round brush covers on its way."""
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    draw.line([tuple(point) for point in points], 1, max(1, round(2 * radius)))
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), 1)
    return np.array(image)
