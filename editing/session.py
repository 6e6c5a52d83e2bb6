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
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from torch import Tensor

from data import class_colors, collate
from data.celeba_dataset import IN_WORDS
from data.instance_maps import main_classes
from editing.uploads import MOST_INSTANCES, Upload, check_instances
from models.batches import Batch
from models.layout_styles import LayoutStyles, numpy_styles
from models.networks.styles import Styles
from models.synthesis import Synthesizer
from util.errors import UserError
from util.images import to_pictures

WHOLE = -1  # stands for the image-level vector z where instances are named
MOST_STEPS = 40  # that can be undone
MOST_POINTS = 2000  # of a stroke
THUMBNAIL = 96  # pixels: height
ALTERNATIVES = 6  # that are shown at once
SOFT = 1.5  # pixels: standard deviation of the edge where a picture is composited into another


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
    """The styles of a layout before truncation, on the CPU."""

    styles: Styles  # z [1, z_dim] and noise [1, K, 2, noise_nc]
    # [K + 1]: what truncation multiplies the noise of each instance by, and last z; NaN for what is of a photo, or
    # mixed with it: that is used as it is
    spread: Tensor

    def truncated(self) -> Styles:
        """The styles that the network gets."""
        spread = self.spread.nan_to_num(1.0)
        return Styles(self.styles.z * spread[-1], self.styles.noise * spread[:-1, None, None])

    def replaced(self, others: "Drawn", rows: Sequence[int]) -> "Drawn":
        """With those of ``others``, of the same layout, for some instances; ``WHOLE`` is z."""
        return self.taken(others, dict(zip(rows, rows, strict=True)))

    def taken(self, others: "Drawn", partners: Mapping[int, int]) -> "Drawn":
        """With those of ``others``, which may be of another layout: ``partners`` says who takes whose; ``WHOLE`` is z.
        """
        noise, spread = self.styles.noise.clone(), self.spread.clone()
        rows = [i for i in partners if i != WHOLE]
        noise[0, rows] = others.styles.noise[0, [partners[i] for i in rows]]
        spread[list(partners)] = others.spread[list(partners.values())]
        return Drawn(Styles(others.styles.z if WHOLE in partners else self.styles.z, noise), spread)

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
    """A picture [H, W, 3] uint8, and what made it."""

    what: str
    model: str  # name of the networks
    canvas: Canvas
    styles: Drawn
    before: Drawn | None = None  # what a blend goes back to; None where there is nothing for this layout
    blend: float = 1.0  # where between ``before`` and ``styles`` (1) the picture is
    truncation: float = 1.0  # of what is drawn from the prior and was not locked
    slider: str = ""  # that made it: when it moves on, the next step takes the place of this one
    under: np.ndarray | None = None  # what is seen outside of ``inside``; None: the networks' own picture
    inside: np.ndarray | None = None  # [H, W] bool
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
        arrays = (self.picture, self.canvas.label, self.canvas.instance, self.under, self.inside)
        styles = (drawn.styles for drawn in (self.styles, self.before) if drawn)
        return (sum(array.nbytes for array in arrays if array is not None)
                + sum(one.z.nbytes + one.noise.nbytes for one in styles))

    def current(self) -> Drawn:
        return self.styles if self.before is None else self.before.between(self.styles, self.blend)


@dataclass(frozen=True)
class Session:
    """All that the demo knows of a visitor."""

    steps: tuple[Step, ...]  # the history, at least one
    position: int = 0  # the picture is that of ``steps[position]``; later ones can be redone
    locked: frozenset[int] = frozenset()  # instances whose styles stay
    only_inside: bool = False  # whether what changes alone is composited into the picture before
    offers: tuple[Step, ...] = ()  # alternatives to choose from
    source: Step | None = None  # a picture to take styles from
    uploads: Mapping[str, Upload] = dataclasses.field(default_factory=dict)  # by kind
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)  # what was wrong with the last one of a kind

    @property
    def step(self) -> Step:
        return self.steps[self.position]

    @property
    def can_blend(self) -> bool:
        return self.step.before is not None

    def go_to(self, position: int) -> "Session":
        """Undo or redo up to a step of the history. :raises UserError: there is no such step."""
        if not 0 <= position < len(self.steps):
            raise UserError("there is no such step in the history")
        return self if position == self.position else self._with(position=position)

    def undo(self) -> "Session":
        return self.go_to(max(self.position - 1, 0))

    def redo(self) -> "Session":
        return self.go_to(min(self.position + 1, len(self.steps) - 1))

    def toggle_lock(self, instance: int) -> "Session":
        """Lock an instance, or unlock it. :raises UserError: there is no such instance."""
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
        steps = (*self.steps, *self.offers, *((self.source,) if self.source else ()))
        return sum(step.bytes() for step in steps) + sum(file.pixels.nbytes for file in self.uploads.values())

    def _with(self, **changes) -> "Session":
        session = dataclasses.replace(self, **changes)
        if session.step.model != self.step.model:  # whose size and classes others have
            session = dataclasses.replace(session, uploads={}, refused={}, source=None, locked=frozenset())
        if session.step.canvas is not self.step.canvas:
            session = dataclasses.replace(session, offers=())
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
        self.model = opt.name
        self.synthesizer, self.opt, self._names, self.colors = synthesizer, opt, names, class_colors(opt)
        self.has_instances = not opt.no_instance
        self.has_encoder = synthesizer.model.netE is not None
        self.background = next((kind for kind, name in names.items() if name == "background"), None)

    def name(self, kind: int) -> str:
        """What to call a class, in words."""
        name = self._names.get(kind, "don't care" if kind == self.opt.label_nc else f"class {kind}")
        return IN_WORDS.get(name, name.replace("_", " "))

    # ---- layouts ----

    def blank(self, kind: int = 0) -> Canvas:
        """A layout of one class alone."""
        label = np.full(self.opt.image_size, kind, np.int32)
        return Canvas(label, label if not self.has_instances else np.zeros_like(label))

    def canvas(self, batch: Batch) -> Canvas:
        """That of a layout."""
        return Canvas(*(ids[0].cpu().numpy().astype(np.int32) for ids in (batch.layout.label, batch.layout.instance)))

    def start(self, canvas: Canvas, what: str = "sample", seed: int | None = None) -> Session:
        """A new visitor, who sees a sample of this layout."""
        return self.begin(self._new(canvas, what, 1.0, seed))

    def begin(self, step: Step) -> Session:
        """A new visitor, who sees ``step``, which has no picture yet."""
        return Session((self._draw(step),))

    def open(self, session: Session, canvas: Canvas, what: str, keep: bool = False) -> Session:
        """Another layout, in newly drawn styles.

        :param keep: or in those of the picture, for what has a partner there (of its class, by size); and z.
        :raises UserError: it has too many instances.
        """
        check_instances(canvas.instance, what, max(MOST_INSTANCES, self.opt.num_classes))
        before, step = session.step, self._new(canvas, what, session.step.truncation)
        if keep and before.model == step.model:
            styles = step.styles.taken(before.current(), {WHOLE: WHOLE, **self._partners(canvas, before.canvas)})
            step = dataclasses.replace(step, styles=styles)
        return dataclasses.replace(session, locked=frozenset()).add(self._draw(step))

    def paint(self, session: Session, kind: int, radius: float, points: list[tuple[float, float]],
              new_instance: bool = True) -> Session:
        """A stroke of the brush, of the class ``kind``.

        :param points: (x, y) along which it goes, in pixels of the layout, as ``radius``.
        :param new_instance: or else the stroke belongs to the instance it starts in, if that is of the class.
        :raises UserError: not such a stroke, or too many instances.
        """
        height, width = session.step.canvas.label.shape
        if not (0 <= kind < self.opt.num_classes and 0 < radius <= max(height, width) and 0 < len(points) <= MOST_POINTS
                and np.isfinite(points).all() and np.abs(points).max() < 2**15):
            raise UserError(f"that is no stroke of a brush, which has a class, a radius and up to {MOST_POINTS} points")
        return self._cover(session, kind, stroke(height, width, radius, points), points[0], new_instance)

    def fill(self, session: Session, kind: int, point: tuple[float, float], new_instance: bool = True) -> Session:
        """Another class for what is connected with ``point`` (x, y) and is of its class and instance.

        :raises UserError: no such class or point, or too many instances.
        """
        label, instance = session.step.canvas.label, session.step.canvas.instance
        height, width = label.shape
        if not (0 <= kind < self.opt.num_classes and 0 <= point[0] < width and 0 <= point[1] < height):
            raise UserError("that is no place to fill: give a class and a point of the layout")
        x, y = map(int, point)
        parts = ndimage.label((label == label[y, x]) & (instance == instance[y, x]))[0]
        return self._cover(session, kind, parts == parts[y, x], point, new_instance)

    def _cover(self, session: Session, kind: int, mask: np.ndarray, begin: tuple[float, float],
               new_instance: bool) -> Session:
        """A class for the pixels of ``mask``; where ``begin`` (x, y) lies decides of which instance."""
        step = session.step
        if not mask.any():
            return session
        label, instance = step.canvas.label.copy(), step.canvas.instance.copy()
        height, width = label.shape
        x, y = (int(np.clip(value, 0, side - 1)) for value, side in zip(begin, (width, height), strict=True))
        if not self.has_instances and np.array_equal(label, instance):  # one style for each class
            number, is_new = kind, kind not in instance
        elif is_new := new_instance or label[y, x] != kind:
            taken = set(np.unique(instance[~mask]).tolist())
            number = next((i for i in range(MOST_INSTANCES) if i not in taken), None)
            if number is None:
                raise UserError(f"there are {MOST_INSTANCES} parts already; undo some, or paint over them")
        else:
            number = int(instance[y, x])
        label[mask], instance[mask] = kind, number
        canvas = Canvas(label, instance)
        sample = self._sample(canvas, step.truncation)
        styles = step.current().resized(len(sample.spread) - 1, sample)
        if is_new:
            styles = styles.replaced(sample, [number])
            session = dataclasses.replace(session, locked=session.locked - {number})
        step = Step(f"{self.name(kind)} painted", self.model, canvas, styles, truncation=step.truncation)
        return session.add(self._draw(self._composited(session, step, mask)))

    # ---- styles ----

    def resample(self, session: Session, instance: int | None = None) -> Session:
        """Newly drawn styles for one instance, for z (``WHOLE``), or (None) for all that is not locked. z belongs to
        the whole picture: it stays while anything is locked.

        :raises UserError: the layout has no such instance, or it is locked.
        """
        rows, what = self._rows(session, instance)
        return self._change(session, what, self._sample(session.step.canvas, session.step.truncation), rows)

    def offer(self, session: Session, instance: int | None = None) -> Session:
        """Alternatives to choose from, drawn as one batch: each is what :meth:`resample` may make; raises the same."""
        step, (rows, what) = session.step, self._rows(session, instance)
        batch = self._batch(step.canvas, ALTERNATIVES)
        others = self.synthesizer.draw_styles(batch).map(Tensor.cpu)
        spread = torch.full((others.noise.shape[1] + 1,), step.truncation)
        before = step.current()
        steps = [self._changed(session, what, before, Drawn(others[n:n + 1], spread), rows)
                 for n in range(ALTERNATIVES)]
        pictures = self.synthesizer.pictures(batch, Styles.cat([self._given(one) for one in steps]))
        offers = [dataclasses.replace(one, picture=composited(picture, one)) for one, picture in
                  zip(steps, pictures, strict=True)]
        return dataclasses.replace(session, offers=tuple(offers))

    def choose(self, session: Session, index: int) -> Session:
        """One of the alternatives, in place of one that was chosen before. :raises UserError: there is no such one."""
        if not 0 <= index < len(session.offers):
            raise UserError("there is no such alternative")
        step = self._draw(session.offers[index])  # in a batch the last bit may be another one
        is_next = session.step.before is None or session.step.before is not step.before
        return session.add(step) if is_next else session.replace_step(step)

    def seen(self, photo: Batch, what: str) -> Step:
        """What the encoder sees in a photo (of one layout): its means. :raises UserError: no encoder, or no photo."""
        mu = torch.from_numpy(self.synthesizer.reference(photo).mu)[None]
        styles = Drawn(Styles(torch.zeros(1, self.opt.z_dim), mu), torch.full((mu.shape[1] + 1,), torch.nan))
        return Step(what, self.model, self.canvas(photo), styles, picture=to_pictures(photo.image)[0])

    def take_styles(self, session: Session, source: Step, pair: tuple[int, int | None] | None = None) -> Session:
        """The styles of another picture.

        :param pair: the instance that takes, and from which one (None: from its partner); or else all that are not
            locked and have a partner there: the same one where the layouts are the same, else one of their class, by
            size.
        :raises UserError: of other networks, no such instances, a locked one, or no class of it is in the picture.
        """
        canvas = session.step.canvas
        if source.model != self.model:
            raise UserError(f"{source.what}: was made by another model, whose looks do not fit this one")
        if pair:
            what = self._rows(session, pair[0])[1]
            there = self._partners(canvas, source.canvas).get(pair[0]) if pair[1] is None else pair[1]
            if pair[0] == WHOLE or there not in source.canvas.instances():
                raise UserError("there is nothing to copy: click a part of the left picture first")
            partners = {pair[0]: there}
        else:
            partners, what = self._partners(canvas, source.canvas), source.what
            partners = {i: there for i, there in partners.items() if i not in session.locked}
            if not partners:
                raise UserError(f"{what}: fits no part of your picture, or only parts that are kept")
        styles = session.step.current().taken(source.current(), partners)
        return self._change(session, what, styles, list(partners))

    def use_styles(self, session: Session, saved: LayoutStyles, what: str) -> Session:
        """The styles of a file, z included, for all instances that are not locked and have a partner there.

        :raises UserError: it has no samples, or no partner for any.
        """
        partners = LayoutStyles.of(self._batch(session.step.canvas).layout).partners(saved)
        partners = {i: there for i, there in partners.items() if i not in session.locked}
        if saved.noise is None or not partners:
            raise UserError(f"{what}: fits no part of your picture, or only parts that are kept")
        partners |= {} if session.locked else {WHOLE: WHOLE}
        styles = Drawn(Styles(*(torch.from_numpy(array[:1]) for array in (saved.z, saved.noise))),
                       torch.full((saved.noise.shape[1] + 1,), torch.nan))
        return self._change(session, what, session.step.current().taken(styles, partners), list(partners))

    def blend(self, session: Session, share: float) -> Session:
        """The picture between the styles before the last change (0) and after it (1)."""
        share = float(np.clip(share, 0, 1))
        if not session.can_blend or share == session.step.blend:
            return session
        return self._slide(session, dataclasses.replace(session.step, blend=share, what="before or after",
                                                        slider="blend"))

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
        return self._slide(session, dataclasses.replace(
            step, styles=scaled(step.styles), before=before, truncation=truncation, what="variety", slider="truncation",
            under=None, inside=None))

    # ---- files ----

    def download(self, session: Session) -> bytes:
        """A ZIP file of the present picture: picture.png; label.png in the data set's colours, but its pixels are ids;
        instances.png where the network reads such; styles.npz for --style_file of test.py, and to load here again."""
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

    def _new(self, canvas: Canvas, what: str, truncation: float, seed: int | None = None) -> Step:
        return Step(what, self.model, canvas, self._sample(canvas, truncation, seed), truncation=truncation)

    def _sample(self, canvas: Canvas, truncation: float, seed: int | None = None) -> Drawn:
        seeds = None if seed is None else [seed]
        styles = self.synthesizer.draw_styles(self._batch(canvas), seeds).map(Tensor.cpu)
        return Drawn(styles, torch.full((styles.noise.shape[1] + 1,), truncation))

    def _batch(self, canvas: Canvas, count: int = 1) -> Batch:
        """As it is: a canvas has the network's size and ids already, and the rows of its styles go by those ids."""
        label, instance = (torch.from_numpy(ids)[None] for ids in (canvas.label, canvas.instance))
        label = label if self.opt.num_classes > 256 else label.byte()
        return self.synthesizer.prepare(collate([{"label": label, "instance": instance, "path": "layout"}] * count))

    def _partners(self, canvas: Canvas, others: Canvas) -> dict[int, int]:
        """Instance id -> there, see :meth:`~models.layout_styles.LayoutStyles.partners`."""
        here, there = (LayoutStyles.of(self._batch(one).layout) for one in (canvas, others))
        return here.partners(there)

    def _rows(self, session: Session, instance: int | None) -> tuple[list[int], str]:
        """Whose styles are to change, and what to call that; see :meth:`resample`."""
        instances = session.step.canvas.instances()
        if instance is None:
            return ([i for i in instances if i not in session.locked] + ([] if session.locked else [WHOLE]),
                    "all but the kept" if session.locked else "sample")
        if instance == WHOLE:
            return [WHOLE], "overall look"
        if instance not in instances:
            raise UserError(f"the layout has no instance {instance}")
        if instance in session.locked:
            raise UserError(f"{self.name(instances[instance])} is kept: click its lock to give it another look")
        return [instance], self.name(instances[instance])

    def _change(self, session: Session, what: str, others: Drawn, rows: Sequence[int]) -> Session:
        return session.add(self._draw(self._changed(session, what, session.step.current(), others, rows)))

    def _changed(self, session: Session, what: str, before: Drawn, others: Drawn, rows: Sequence[int]) -> Step:
        """The next step, without its picture."""
        step = session.step
        styles = before.replaced(others, rows)
        changed = Step(what, self.model, step.canvas, styles, before, truncation=step.truncation)
        return changed if WHOLE in rows else self._composited(session, changed, np.isin(step.canvas.instance, rows))

    def _composited(self, session: Session, step: Step, inside: np.ndarray) -> Step:
        if not session.only_inside:
            return step
        return dataclasses.replace(step, under=session.step.picture, inside=inside)

    def _slide(self, session: Session, step: Step) -> Session:
        is_next = session.step.slider != step.slider
        return session.add(self._draw(step)) if is_next else session.replace_step(self._draw(step))

    def _given(self, step: Step) -> Styles:
        return step.current().truncated().map(lambda value: value.to(self.opt.device))

    def _draw(self, step: Step) -> Step:
        picture = self.synthesizer.pictures(self._batch(step.canvas), self._given(step))[0]
        return dataclasses.replace(step, picture=composited(picture, step))


def composited(picture: np.ndarray, step: Step) -> np.ndarray:
    """What is seen of the networks' picture [H, W, 3] of a step."""
    if step.under is None:
        return picture
    mask = Image.fromarray(np.uint8(255 * step.inside)).filter(ImageFilter.GaussianBlur(SOFT))
    return np.asarray(Image.composite(Image.fromarray(picture), Image.fromarray(step.under), mask))


def stroke(height: int, width: int, radius: float, points: list[tuple[float, float]]) -> np.ndarray:
    """The pixels [H, W] bool that a round brush covers on its way."""
    image = Image.new("1", (width, height))
    draw = ImageDraw.Draw(image)
    draw.line([tuple(point) for point in points], 1, max(1, round(2 * radius)))
    for x, y in points:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), 1)
    return np.array(image)
