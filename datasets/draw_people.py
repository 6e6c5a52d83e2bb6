"""Draw layouts of dressed persons, with the class ids of Clothing Co-Parsing, for checkpoints/ccp:

    python -m datasets.draw_people --out checkpoints/ccp/examples

They are nobody's photographs: shapes of a few lines each. Writes val_label/NAME.png and classes.txt.
"""
import numpy as np

from datasets.drawing import Canvas, Point, draw_examples
from util.errors import command

HEIGHT, WIDTH = 256, 128
_NAMES = """
background accessories bag belt blazer blouse bodysuit boots bra bracelet cape cardigan clogs coat dress earrings
flats glasses gloves hair hat heels hoodie intimate jacket jeans jumper leggings loafers necklace panties pants
pumps purse ring romper sandals scarf shirt shoes shorts skin skirt sneakers socks stockings suit sunglasses sweater
sweatshirt swimwear t-shirt tie tights top vest wallet watch wedges
"""
CLASSES = tuple(_NAMES.split())  # of the data set, by id
_DRAWN = """
skin suit pants sweater skirt jeans dress jacket coat shirt blazer t-shirt hair boots shorts shoes stockings blouse bag
top scarf hat purse tie belt sunglasses
"""
DRAWN = tuple(_DRAWN.split())  # of them, by the area that they take here: their colours differ most


class Figure(Canvas):
    """A person in the middle, whose feet stand ``stance`` apart; the weight is on the left one."""

    def __init__(self, stance: float = 0.05):
        super().__init__(WIDTH, HEIGHT, CLASSES)
        self.hips, self.knees = (-0.042, 0.042), (-0.045, 0.045 + stance / 3)
        self.ankles = (-0.04 - stance / 3, 0.04 + stance)

    def legs(self, kind: str, start: float = 0.47, end: float = 0.91, radius: float = 0.036) -> None:
        """Both legs between two heights, in skin or in cloth."""
        for side in (0, 1):
            heights = np.linspace(start, end, 12)
            x = np.interp(heights, (0.47, 0.68, 0.91), (self.hips[side], self.knees[side], self.ankles[side]))
            radii = np.interp(heights, (0.47, 0.68, 0.91), (radius, 0.76 * radius, 0.55 * radius))
            self.limb(kind, *zip(x, heights, radii, strict=True))

    def feet(self, kind: str, shaft: float = 0.915) -> None:
        """Shoes, or with a ``shaft`` that begins higher up boots."""
        if shaft < 0.9:
            self.legs(kind, shaft, 0.92, 0.042)
        for x, toe in ((self.ankles[0], -0.024), (self.ankles[1], 0.028)):
            self.limb(kind, (x, 0.92, 0.017), (x + toe, 0.942, 0.015))

    def arm(self, kind: str, side: int, hand: Point, elbow: Point, end: float = 1.0, radius: float = 0.026) -> None:
        """An arm, right (``side`` 1) or left (-1) in the picture; a sleeve with ``end`` 0.5 ends at the elbow."""
        joints = ((side * 0.066, 0.212, radius), (side * elbow[0], elbow[1], 0.85 * radius),
                  (side * hand[0], hand[1], 0.6 * radius))
        self.limb(kind, *joints, end=end)

    def arms(self, kind: str, **sleeves: float) -> None:
        for side in (-1, 1):
            self.arm(kind, side, *HANGING, **sleeves)

    def panel(self, kind: str, side: int, *right: Point) -> None:
        """An area of the right side, or its mirror image on the left."""
        self.area(kind, *((side * x, y) for x, y in right))

    def head(self, hair: str = "short") -> None:
        """Neck, face and hair: short, bob or long."""
        if hair == "long":
            self.both_sides("hair", (0.02, 0.035), (0.052, 0.07), (0.055, 0.15), (0.066, 0.25), (0.03, 0.26))
        self.limb("skin", (0, 0.12, 0.024), (0, 0.18, 0.026))
        self.disc("hair", 0, 0.083, 0.046 if hair == "bob" else 0.042, 0.048)
        if hair == "bob":
            self.both_sides("hair", (0.03, 0.06), (0.05, 0.09), (0.05, 0.142), (0.03, 0.146))
        self.disc("skin", 0.002, 0.102, 0.031, 0.045)
        if hair == "long":  # over the shoulders, in front
            for side in (-1, 1):
                self.panel("hair", side, (0.02, 0.045), (0.045, 0.07), (0.062, 0.21), (0.045, 0.25), (0.034, 0.2),
                           (0.03, 0.1))
        self.both_sides("hair", (0.014, 0.04), (0.036, 0.06), (0.036, 0.085), (0.018, 0.07))

    def trunk(self, kind: str, bottom: float = 0.47, waist: float = 0.064, hem: float = 0.082) -> None:
        """What covers the body from the shoulders down to ``bottom``, half as wide as ``hem`` there."""
        self.both_sides(kind, (0.028, 0.17), (0.084, 0.188), (0.086, 0.23), (waist + 0.012, 0.3), (waist, 0.38),
                        ((waist + hem) / 2 + 0.004, 0.43) if bottom > 0.45 else (hem, bottom), (hem, bottom))


HANGING = ((0.104, 0.485), (0.104, 0.345))
ON_HIP = ((0.085, 0.44), (0.142, 0.34))


def coat_and_skirt() -> Figure:
    figure = Figure(0.03)
    figure.legs("stockings")
    figure.feet("boots", 0.79)
    figure.both_sides("skirt", (0.062, 0.4), (0.078, 0.46), (0.088, 0.62))
    figure.trunk("blouse", 0.43, hem=0.066)
    figure.head("bob")
    for side in (-1, 1):
        figure.arm("skin", side, *HANGING, radius=0.03)
        figure.panel("coat", side, (0.026, 0.165), (0.09, 0.183), (0.098, 0.3), (0.112, 0.57), (0.055, 0.58),
                     (0.04, 0.4), (0.03, 0.26))
        figure.arm("coat", side, *HANGING, end=0.92, radius=0.034)
    figure.area("bag", (0.095, 0.5), (0.13, 0.5), (0.135, 0.6), (0.09, 0.6))
    return figure


def shirt_and_jeans() -> Figure:
    figure = Figure(0.06)
    figure.feet("shoes")
    figure.legs("jeans", radius=0.043)
    figure.both_sides("jeans", (0.062, 0.42), (0.084, 0.47), (0.06, 0.53))
    figure.both_sides("belt", (0.064, 0.413), (0.067, 0.435))
    figure.head("short")
    figure.arms("skin")
    figure.trunk("shirt", 0.42, hem=0.07)
    figure.arms("shirt", end=0.8, radius=0.031)
    figure.area("skin", (-0.018, 0.165), (0.018, 0.165), (0, 0.215))
    figure.both_sides("sunglasses", (0.029, 0.088), (0.029, 0.104), (0.008, 0.104))
    return figure


def dress() -> Figure:
    figure = Figure(0.02)
    figure.legs("skin")
    figure.feet("shoes")
    figure.arms("skin")
    figure.both_sides("skin", (0.026, 0.165), (0.085, 0.185), (0.088, 0.22), (0.06, 0.24))
    figure.head("long")
    figure.both_sides("dress", (0.05, 0.19), (0.074, 0.26), (0.056, 0.37), (0.085, 0.47), (0.115, 0.64))
    figure.area("skin", (-0.03, 0.17), (0.03, 0.17), (0.0, 0.225))
    figure.area("purse", (-0.135, 0.46), (-0.088, 0.46), (-0.085, 0.53), (-0.14, 0.53))
    return figure


def summer() -> Figure:
    figure = Figure(0.06)
    figure.legs("skin")
    figure.feet("shoes")
    figure.legs("shorts", 0.47, 0.6, 0.045)
    figure.both_sides("shorts", (0.064, 0.41), (0.086, 0.47), (0.07, 0.53))
    figure.arm("skin", 1, *ON_HIP)
    figure.arm("skin", -1, *HANGING)
    figure.head("bob")
    figure.trunk("t-shirt", 0.43, hem=0.074)
    figure.arm("t-shirt", 1, *ON_HIP, end=0.35, radius=0.032)
    figure.arm("t-shirt", -1, *HANGING, end=0.35, radius=0.032)
    figure.both_sides("hat", (0.03, 0.025), (0.038, 0.06), (0.07, 0.07), (0.066, 0.078))
    return figure


def suit() -> Figure:
    figure = Figure(0.05)
    figure.feet("shoes")
    figure.legs("suit", radius=0.044)
    figure.head("short")
    figure.trunk("shirt", 0.42)
    for side in (-1, 1):
        figure.arm("skin", side, *HANGING)
        figure.panel("suit", side, (0.026, 0.165), (0.094, 0.183), (0.094, 0.3), (0.094, 0.52), (0.0, 0.53),
                     (-0.004, 0.36), (0.02, 0.26))
        figure.arm("suit", side, *HANGING, end=0.93, radius=0.033)
    figure.area("tie", (-0.009, 0.18), (0.009, 0.18), (0.008, 0.31), (-0.006, 0.31))
    return figure


def jacket_and_scarf() -> Figure:
    figure = Figure(0.07)
    figure.legs("pants", radius=0.042)
    figure.both_sides("pants", (0.062, 0.42), (0.084, 0.47), (0.06, 0.53))
    figure.feet("boots", 0.8)
    figure.head("long")
    figure.arm("skin", 1, *ON_HIP)
    figure.arm("skin", -1, *HANGING)
    figure.trunk("jacket", 0.47, hem=0.09, waist=0.08)
    figure.arm("jacket", 1, *ON_HIP, end=0.92, radius=0.035)
    figure.arm("jacket", -1, *HANGING, end=0.92, radius=0.035)
    figure.both_sides("scarf", (0.04, 0.15), (0.052, 0.18), (0.04, 0.21))
    figure.area("scarf", (-0.03, 0.19), (0.012, 0.19), (0.006, 0.34), (-0.034, 0.34))
    figure.area("bag", (-0.165, 0.5), (-0.088, 0.5), (-0.08, 0.63), (-0.17, 0.63))
    return figure


def sweater_and_pants() -> Figure:
    figure = Figure(0.04)
    figure.feet("shoes")
    figure.legs("pants", end=0.925, radius=0.05)
    figure.both_sides("pants", (0.064, 0.42), (0.09, 0.47), (0.075, 0.55))
    figure.head("long")
    figure.arms("skin")
    figure.trunk("sweater", 0.46, hem=0.084, waist=0.076)
    figure.arms("sweater", end=0.93, radius=0.036)
    figure.both_sides("hat", (0.02, 0.018), (0.044, 0.045), (0.047, 0.076))
    return figure


def blazer_and_skirt() -> Figure:
    figure = Figure(0.02)
    figure.legs("skin")
    figure.feet("shoes")
    figure.both_sides("skirt", (0.062, 0.42), (0.085, 0.5), (0.13, 0.72))
    figure.head("bob")
    figure.trunk("top", 0.44)
    figure.arm("skin", 1, *HANGING)
    figure.arm("skin", -1, *ON_HIP)
    for side, pose in ((1, HANGING), (-1, ON_HIP)):
        figure.panel("blazer", side, (0.026, 0.165), (0.092, 0.183), (0.088, 0.3), (0.082, 0.47), (0.03, 0.48),
                     (0.022, 0.36), (0.028, 0.25))
        figure.arm("blazer", side, *pose, end=0.9, radius=0.032)
    figure.area("purse", (0.088, 0.5), (0.14, 0.5), (0.145, 0.57), (0.084, 0.57))
    return figure


PEOPLE = (coat_and_skirt, dress, shirt_and_jeans, summer, jacket_and_scarf, blazer_and_skirt, suit, sweater_and_pants)


@command
def main() -> None:
    draw_examples(__doc__, PEOPLE, CLASSES, DRAWN)


if __name__ == "__main__":
    main()
