"""Draws the figures of docs/negatives.md and docs/prototypes.md: what a batch of each method holds.

Run it as `python docs/figures/draw.py`. It writes an SVG for each figure beside itself. All are 340 wide, so that they
are readable on a phone, and have a white ground, so that they are readable on a dark page.
"""

from pathlib import Path
from typing import Literal

Kind = Literal["own", "hard", "other", "none"]

WIDTH, CELL = 340, 22
INK, PALE, LINE = "#1f2328", "#59636e", "#8c959f"
FILL = {"own": "#2da44e", "hard": "#fb8f44", "other": "#d0d7de", "none": "#ffffff"}
CLUSTERS = ("#54aeff", "#e85aad", "#c29ffa")  # blue, pink, violet


class Figure:
    """Shapes and words, in the order in which they are drawn."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.parts = [f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff" stroke="#d0d7de"/>']

    def text(self, x: float, y: float, words: str, *, anchor: str = "start", color: str = INK, size: int = 12) -> None:
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{words}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, fill: str, *, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="3 2"' if dashed else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" '
            f'stroke="{LINE}"{dash}/>'
        )

    def dot(self, x: float, y: float, fill: str, *, radius: float = 6, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="2 2"' if dashed else ""
        self.parts.append(
            f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="{INK if dashed else LINE}"{dash}/>'
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, color: str = INK, *, arrow: bool = False) -> None:
        end = ' marker-end="url(#tip)"' if arrow else ""
        self.parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{color}" stroke-width="1.5"{end}/>'
        )

    def cross(self, x: float, y: float, fill: str) -> None:
        """A centroid."""
        self.parts.append(
            f'<path d="M{x - 7:g} {y:g}h14M{x:g} {y - 7:g}v14" stroke="{INK}" stroke-width="5"/>'
            f'<path d="M{x - 6:g} {y:g}h12M{x:g} {y - 6:g}v12" stroke="{fill}" stroke-width="3"/>'
        )

    def matrix(self, x: float, y: float, rows: str, columns: str, cells: list[str], *, dashed: bool = False) -> None:
        """One letter for each cell: `+` own key, `-` hard negative, `.` other negative, a space for not compared."""
        kinds: dict[str, Kind] = {"+": "own", "-": "hard", ".": "other", " ": "none"}
        for number, name in enumerate(columns.split()):
            self.text(x + CELL * (number + 0.5), y - 5, name, anchor="middle")
        for number, name in enumerate(rows.split()):
            self.text(x - 5, y + CELL * (number + 0.5) + 4, name, anchor="end")
        for down, row in enumerate(cells):
            for along, letter in enumerate(row):
                self.box(x + CELL * along, y + CELL * down, CELL - 2, CELL - 2, FILL[kinds[letter]], dashed=dashed)

    def legend(self, y: float, entries: list[tuple[str, str]]) -> None:
        """Each entry: a color, and what it means."""
        x = 12.0
        for fill, words in entries:
            self.box(x, y - 10, 12, 12, fill)
            self.text(x + 16, y, words, color=PALE, size=11)
            x += 26 + 6.4 * len(words)

    def svg(self, title: str) -> str:
        tip = (
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>'
        )
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img" font-family="system-ui, -apple-system, Helvetica, sans-serif">'
        )
        return "\n".join([head, f"<title>{title}</title>", tip, *self.parts, "</svg>", ""])


COMPARED = [(FILL["own"], "own key"), (FILL["hard"], "hard negative"), (FILL["other"], "other negative")]


def negclip() -> Figure:
    figure = Figure(190)
    figure.text(84, 22, "captions", anchor="middle", color=PALE)
    figure.text(214, 22, "wrong captions", anchor="middle", color=PALE)
    figure.matrix(40, 44, "a a′ b b′", "a a′ b b′", ["+-..", "-+..", "..+-", "..-+"])
    figure.matrix(170, 44, "", "¬a ¬a′ ¬b ¬b′", ["--..", "--..", "..--", "..--"])
    figure.text(12, 152, "Rows: pictures. a brought a′, which looks alike.")
    figure.legend(176, COMPARED)
    return figure


def tripletclip() -> Figure:
    figure = Figure(276)
    for top, rows, first, second, names in (
        (44, "a b c", "a b c", "¬a ¬b ¬c", ("captions", "wrong captions")),
        (156, "¬a ¬b ¬c", "¬a ¬b ¬c", "a b c", ("wrong captions", "captions")),
    ):
        figure.matrix(90, top, rows, first, ["+..", ".+.", "..+"])
        figure.matrix(200, top, "", second, ["-..", ".-.", "..-"])
        figure.text(122, top - 20, names[0], anchor="middle", color=PALE)
        figure.text(232, top - 20, names[1], anchor="middle", color=PALE)
    figure.text(12, 80, "pictures", color=PALE)
    figure.text(12, 184, "wrong", color=PALE)
    figure.text(12, 198, "pict.", color=PALE)
    figure.text(12, 242, "Two terms. ¬a: caption a with one mistake.")
    figure.legend(264, COMPARED)
    return figure


def tclap() -> Figure:
    figure = Figure(236)
    figure.text(12, 28, "sound")
    figure.box(66, 12, 110, 24, CLUSTERS[0])
    figure.box(178, 12, 110, 24, CLUSTERS[2])
    figure.text(121, 28, "dog", anchor="middle")
    figure.text(233, 28, "car", anchor="middle")
    captions: list[tuple[Kind, str, str]] = [
        ("own", "a dog barks, then a car passes", "its caption"),
        ("hard", "a car passes, then a dog barks", "wrong order"),
        ("hard", "a dog barks while a car passes", "wrong join"),
        ("other", "rain falls on a roof", "of another clip"),
    ]
    for number, (kind, words, meaning) in enumerate(captions):
        y = 52 + 36 * number
        figure.box(12, y, 204, 26, FILL[kind])
        figure.text(18, y + 17, words)
        figure.text(222, y + 17, meaning, color=PALE, size=11)
    figure.text(12, 220, "A clip of two sounds, and its captions.")
    return figure


def degla() -> Figure:
    figure = Figure(258)
    figure.text(12, 22, "1 pictures and all captions, right and wrong", color=PALE)
    figure.matrix(50, 46, "a b", "a b", ["+.", ".+"])
    figure.matrix(110, 46, "", "¬a ¬a ¬b ¬b", ["--..", "..--"])
    figure.text(12, 112, "2 only its own captions", color=PALE)
    figure.matrix(50, 136, "a b", "a b", ["+ ", " +"])
    figure.matrix(110, 136, "", "¬a ¬a ¬b ¬b", ["--  ", "  --"])
    figure.text(222, 112, "3 a slow copy", color=PALE)
    figure.matrix(262, 136, "a ¬a", "a ¬a", ["+ ", " +"], dashed=True)
    figure.text(12, 204, "2 also has captions in place of pictures.")
    figure.text(12, 222, "3 pulls each row to its vector by the slow copy.")
    figure.legend(246, COMPARED)
    return figure


def neighbours() -> Figure:
    figure = Figure(232)
    figure.text(12, 22, "neighbours of a, by falling similarity")
    for rank in range(12):
        x, kind = 22 + 25 * rank, "none" if rank < 3 else "hard" if rank < 7 else "other"
        figure.dot(x, 44, FILL[kind], radius=8, dashed=rank < 3)
    figure.text(12, 72, "left out: may", color=PALE, size=11)
    figure.text(12, 86, "be matches", color=PALE, size=11)
    figure.text(98, 72, "drawn from", color=PALE, size=11)
    figure.text(98, 86, "this band", color=PALE, size=11)
    figure.text(198, 72, "too easy", color=PALE, size=11)
    figure.line(128, 94, 82, 122, arrow=True)
    figure.text(12, 116, "batch")
    for number, name in enumerate(["a", "a′", "b", "b′", "c", "c′", "d", "d′"]):
        figure.box(14 + 39 * number, 126, 35, 26, FILL["hard" if "′" in name else "other"])
        figure.text(31 + 39 * number, 143, name, anchor="middle")
    figure.text(12, 178, "Every other sample brings a neighbour.")
    figure.text(12, 196, "SciNCL draws from a band of ranks,")
    figure.text(12, 214, "UniME from those below a similarity.")
    return figure


def mcl() -> Figure:
    figure = Figure(210)
    figure.text(12, 22, "clusters of an earlier model’s vectors")
    places = [(0, 0), (16, 8), (30, -4), (10, 22), (28, 20), (44, 10)]
    for number, fill in enumerate(CLUSTERS):
        for x, y in places:
            figure.dot(36 + 108 * number + x, 48 + y, fill)
    for number, fill in enumerate(CLUSTERS):
        y = 92 + 26 * number
        figure.text(12, y + 14, f"batch {number + 1}")
        for place in range(8):
            figure.box(66 + 32 * place, y, 28, 20, fill)
    figure.text(12, 192, "Negatives share what made them a cluster.")
    return figure


def protoclip() -> Figure:
    figure = Figure(224)
    figure.text(85, 22, "captions", anchor="middle", color=PALE)
    figure.text(255, 22, "pictures", anchor="middle", color=PALE)
    spots = [[(28, 58), (46, 46), (50, 70)], [(110, 48), (128, 62), (108, 74)], [(62, 118), (84, 110), (82, 132)]]
    shifts = [(178, 16), (166, 50), (196, -62)]
    for fill, cluster, (right, down) in zip(CLUSTERS, spots, shifts, strict=True):
        for x, y in cluster:
            figure.dot(x, y, fill)
            figure.dot(x + right, y + down, fill)
        middle = sum(x for x, _ in cluster) / 3, sum(y for _, y in cluster) / 3
        figure.cross(*middle, fill)
        figure.cross(middle[0] + right, middle[1] + down, fill)
    figure.line(138, 64, 266, 106, PALE, arrow=True)
    figure.text(12, 166, "K-means groups captions. Their pictures have")
    figure.text(12, 184, "means of their own: each picture learns to find")
    figure.text(12, 202, "its cross on the right. And the other way round.")
    return figure


def beclr() -> Figure:
    figure = Figure(244)
    figure.text(12, 22, "memory of the slow copy, in clusters")
    groups = [
        (52, 62, [(-22, -8), (-6, 14), (12, -14), (20, 8), (-14, -24)]),
        (170, 72, [(-24, -14), (-12, 18), (14, -18), (24, 10), (2, 28), (-30, 8)]),
        (284, 62, [(-20, 6), (-4, -16), (14, 12), (22, -8)]),
    ]
    for fill, (x, y, places) in zip(CLUSTERS, groups, strict=True):
        for along, down in places:
            figure.dot(x + along, y + down, fill, dashed=True)
        figure.cross(x, y, fill)
    key = 188, 128
    for x, y in ((172, 100), (194, 82), (158, 90)):
        figure.line(key[0], key[1], x, y, FILL["own"])
        figure.dot(x, y, FILL["own"], dashed=True)
    figure.dot(*key, FILL["own"], radius=8, dashed=True)
    figure.text(202, 132, "own key")
    figure.box(24, 116, 60, 24, FILL["other"])
    figure.text(54, 132, "anchor", anchor="middle")
    figure.line(86, 128, 176, 128, arrow=True)
    figure.text(12, 170, "Positives: the own key, and the three nearest")
    figure.text(12, 188, "vectors of its cluster. All others repel.")
    figure.text(12, 206, "Dashed: no gradient. Crosses: centroids.")
    figure.legend(232, [(FILL["own"], "positive"), (CLUSTERS[1], "other members of the cluster")])
    return figure


def moco() -> Figure:
    figure = Figure(206)
    figure.text(84, 22, "this batch", anchor="middle", color=PALE)
    figure.text(222, 22, "queue of earlier batches", anchor="middle", color=PALE)
    figure.matrix(40, 44, "a b c d", "a b c d", ["+...", ".+..", "..+.", "...+"], dashed=True)
    figure.matrix(140, 44, "", "z y x w v u t s", ["........"] * 4, dashed=True)
    figure.text(12, 154, "Rows: pictures. Columns: captions, all by the")
    figure.text(12, 172, "slow copy (dashed: no gradient).")
    figure.legend(194, [(FILL["own"], "own key"), (FILL["other"], "negative")])
    return figure


TITLES = {
    negclip: "A batch of NegCLIP",
    tripletclip: "A batch of TripletCLIP",
    tclap: "A clip of T-CLAP",
    degla: "A batch of DeGLA",
    neighbours: "A batch of neighbours",
    mcl: "Batches of MCL",
    protoclip: "Prototypes of ProtoCLIP",
    beclr: "The memory of BECLR",
    moco: "A step of MoCo",
}


def draw(folder: Path) -> None:
    for figure, title in TITLES.items():
        (folder / f"{figure.__name__}.svg").write_text(figure().svg(title), encoding="utf-8")


if __name__ == "__main__":
    draw(Path(__file__).parent)
