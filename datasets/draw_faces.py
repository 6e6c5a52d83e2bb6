"""Draw layouts of faces, with the class ids of CelebAMask-HQ, for checkpoints/faces:

    python -m datasets.draw_faces --out checkpoints/faces/examples

They are nobody's photographs: shapes of a few lines each. Writes val_label/NAME.png and classes.txt.
"""
from data.celeba_dataset import CelebAMaskHQ
from datasets.drawing import Canvas, draw_examples
from util.errors import command

SIZE = 256
CLASSES = CelebAMaskHQ.class_names


class Face(Canvas):
    """A face that looks out of the picture.

    :param turn: how far to the right it looks, in heights of the picture: features move there.
    :param width: half of the face's, at the cheeks.
    :param chin: its height in the picture.
    """

    def __init__(self, turn: float = 0.0, width: float = 0.235, chin: float = 0.9):
        super().__init__(SIZE, SIZE, CLASSES)
        self.turn, self.width, self.chin = turn, width, chin

    def cloth(self, kind: str = "cloth", neckline: float = 0.97, shoulders: float = 0.5) -> None:
        self.both_sides(kind, (0.0, neckline), (0.14, neckline - 0.06), (shoulders, 1.02), (shoulders, 1.2), (0, 1.2))

    def neck(self, width: float = 0.14) -> None:
        self.both_sides("neck", (width, 0.72), (width, 0.95), (width + 0.05, 1.05), (0, 1.08))

    def head(self, ears: str = "both", top: float = 0.2) -> None:
        """The skin of the face, and ears: both, none, or the one that a turned head shows."""
        w, chin = self.width, self.chin
        for side, kind in ((1, "l_ear"), (-1, "r_ear")):
            if ears == "both" or (ears == "one" and side * self.turn < 0):
                self.disc(kind, side * (w + 0.012), 0.56, 0.032, 0.085)
        self.both_sides("skin", (0.12, top), (w - 0.02, 0.3), (w, 0.5), (w - 0.008, 0.66), (0.75 * w, chin - 0.1),
                        (0.3 * w, chin + 0.01))

    def features(self, eyes: float = 0.478, open_mouth: bool = False, smile: float = 0.0) -> None:
        """Brows, eyes (left ones are on the right), nose, and mouth, whose corners lie ``smile`` above its middle."""
        for side, part in ((1, "l"), (-1, "r")):
            x = self.turn + side * 0.123
            self.area(f"{part}_brow", (x - side * 0.075, eyes - 0.055), (x, eyes - 0.09),
                      (x + side * 0.085, eyes - 0.05), (x, eyes - 0.068))
            self.area(f"{part}_eye", (x - side * 0.05, eyes + 0.006), (x, eyes - 0.022), (x + side * 0.052, eyes),
                      (x, eyes + 0.018))
        nose = self.turn * 1.5
        self.area("nose", (nose - 0.035, 0.47), (nose + 0.035, 0.47), (nose + 0.04, 0.57), (nose + 0.08, 0.64),
                  (nose + 0.03, 0.672), (nose - 0.03, 0.672), (nose - 0.08, 0.64), (nose - 0.04, 0.57))
        x, y = self.turn * 1.2, 0.752
        left, right = (x - 0.105, y - smile), (x + 0.105, y - smile)
        if open_mouth:
            self.area("mouth", left, (x, y - 0.025), right, (x, y + 0.055))
        self.area("u_lip", left, (x - 0.03, y - 0.03), (x, y - 0.022), (x + 0.03, y - 0.03), right,
                  (x, y - (0.008 if open_mouth else -0.004)))
        self.area("l_lip", left, (x, y + (0.03 if open_mouth else 0)), right, (x + 0.05, y + 0.045),
                  (x - 0.05, y + 0.045))

    def glasses(self) -> None:
        for side in (-1, 1):
            self.disc("eye_g", self.turn + side * 0.123, 0.485, 0.088, 0.066)
        self.limb("eye_g", (self.turn - 0.05, 0.475, 0.01), (self.turn + 0.05, 0.475, 0.01))

    def fringe(self, parting: float = 0.0, forehead: float = 0.33) -> None:
        """Hair from a parting over both temples, which leaves the forehead free below."""
        w = self.width + 0.02
        for side in (-1, 1):
            self.area("hair", (parting, 0.1), (side * w, 0.16), (side * (w + 0.01), 0.5), (side * (w - 0.03), 0.42),
                      (side * 0.6 * w, forehead - 0.06), (parting, forehead - 0.13))


def long_hair() -> Face:
    face = Face(chin=0.89)
    face.both_sides("hair", (0.12, 0.03), (0.3, 0.16), (0.36, 0.45), (0.4, 0.8), (0.38, 1.05), (0, 1.05))
    face.neck(0.12)
    face.cloth(neckline=1.0, shoulders=0.32)
    face.head("none")
    face.features(smile=0.012)
    face.fringe()
    return face


def short_hair() -> Face:
    face = Face(turn=0.02, width=0.24, chin=0.92)
    face.both_sides("hair", (0.14, 0.04), (0.28, 0.14), (0.3, 0.36), (0.25, 0.44))
    face.neck(0.16)
    face.cloth(neckline=0.98)
    face.head()
    face.features()
    face.fringe(parting=0.06, forehead=0.31)
    return face


def laughing() -> Face:
    face = Face(turn=-0.02)
    face.both_sides("hair", (0.14, 0.03), (0.31, 0.14), (0.35, 0.5), (0.34, 0.82), (0.2, 0.86))
    face.neck()
    face.cloth()
    face.head("none")
    face.features(open_mouth=True, smile=0.03)
    face.fringe(parting=-0.07, forehead=0.35)
    for side in (-1, 1):
        face.disc("ear_r", side * 0.262, 0.72, 0.018, 0.035)
    return face


def glasses() -> Face:
    face = Face(width=0.24, chin=0.92)
    face.both_sides("hair", (0.13, 0.06), (0.27, 0.16), (0.28, 0.4), (0.24, 0.46))
    face.neck(0.16)
    face.cloth(neckline=0.97)
    face.head(top=0.16)
    face.glasses()
    face.features()
    face.fringe(forehead=0.3)
    return face


def hat() -> Face:
    face = Face(turn=0.015)
    face.both_sides("hair", (0.2, 0.2), (0.31, 0.4), (0.36, 0.75), (0.34, 1.05), (0, 1.05))
    face.neck(0.12)
    face.cloth(neckline=1.0, shoulders=0.4)
    face.head("none")
    face.features(smile=0.015)
    face.both_sides("hat", (0.16, 0.0), (0.28, 0.1), (0.29, 0.22), (0.42, 0.3), (0.4, 0.36), (0.2, 0.31), (0, 0.3))
    return face


def bob() -> Face:
    face = Face(turn=-0.03, width=0.23)
    face.both_sides("hair", (0.13, 0.05), (0.3, 0.16), (0.34, 0.45), (0.31, 0.74), (0.2, 0.78))
    face.neck(0.12)
    face.cloth(neckline=0.95)
    face.head("none")
    face.features(smile=0.01)
    face.fringe(parting=0.05, forehead=0.4)
    face.limb("neck_l", (-0.14, 0.94, 0.012), (0, 1.0, 0.012), (0.14, 0.94, 0.012))
    return face


def shaven() -> Face:
    face = Face(width=0.245, chin=0.92)
    face.neck(0.17)
    face.cloth(neckline=0.98, shoulders=0.52)
    face.head(top=0.09)
    face.features(smile=0.012)
    return face


def swept_hair() -> Face:
    face = Face(turn=0.035, width=0.23, chin=0.9)
    face.area("hair", (-0.28, 0.5), (-0.3, 0.16), (-0.05, 0.0), (0.26, 0.08), (0.33, 0.4), (0.38, 0.85), (0.3, 1.05),
              (0.1, 1.05))
    face.neck(0.13)
    face.cloth(neckline=0.98, shoulders=0.45)
    face.head("one")
    face.features(open_mouth=True, smile=0.02)
    face.area("hair", (-0.25, 0.46), (-0.24, 0.16), (0.08, 0.06), (0.25, 0.2), (0.25, 0.5), (0.18, 0.36), (-0.06, 0.24))
    return face


FACES = (long_hair, short_hair, laughing, glasses, bob, hat, shaven, swept_hair)


@command
def main() -> None:
    draw_examples(__doc__, FACES, CLASSES)


if __name__ == "__main__":
    main()
