"""Renders a picture with Graphviz: DOT text through the Python package `graphviz`, SVG, PNG and PDF through `dot`.

This is the only module that imports `graphviz`. The actor of an edge is its colour (Okabe and Ito's palette, darkened
until text in it reads well on white) and stands in its label too; how binding it is, is the style of its line.
"""

from __future__ import annotations

import hashlib
import html
import re
import struct
import subprocess
import textwrap
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from xml.etree import ElementTree

from wslifecycle.statemachine.picture import COUPLING, END, Binding, DrawingError, Edge, Kind, Node, Picture, Share

FONT = "DejaVu Sans"
"""What graphviz brings with it on Debian, even without recommended packages."""
FONTS = f"{FONT},Verdana,sans-serif"
"""Verdana is as wide: an SVG is shown by machines that have no DejaVu Sans."""
COLOURS = {
    "app": "#0061a8",
    "peer": "#b84a00",
    "server": "#a0427a",
    "clock": "#7a6200",
    "given": "#00735a",
    COUPLING: "#5a5a5a",
}
WHO = {"given": "receive()", COUPLING: ""}
STYLES = {Binding.MUST: "solid", Binding.SHOULD: "dashed", Binding.CHOICE: "dotted"}
WIDTH = 33
"""Characters in a line of a label."""
GREY = "#b8b8b8"
GREEN, AMBER, RED = "#1a7a34", "#a35f00", "#c01530"
HEADS = {Kind.OBEYED: "normal", Kind.IGNORED: "odot", Kind.REFUSED: "tee"}
START = "start"
PACKAGES = ("libgvc6", "libcairo2", "libpango-1.0-0", "libfreetype6", "libpng16-16", "zlib1g", "fonts-dejavu-core")
INSTALL = (
    "Install the Python package with `pip install 'wslifecycle[diagram]'` and the program `dot` with your system's "
    "package manager (Debian: `apt install graphviz`). The formats mermaid and markdown need neither."
)

Drawn = tuple[str, dict[str, str]]
"""A node's or an edge's title in the SVG, and its attributes."""


# -------------------------------------------------------------------------------------------- texts


def label_lines(edge: Edge) -> list[str]:
    """What stands at an edge: the actor, then its events, in short lines."""
    who = WHO.get(edge.actor, edge.actor) + ("" if edge.kind is Kind.OBEYED else f" {edge.kind}")
    lines: list[str] = []
    for events, effect in edge.said:
        line = f"{who.strip()}: {events}" if who and not lines else events
        line = re.sub(r" \[[^]]{1,16}\]", lambda guard: " " + guard[0][1:].replace(" ", "\u00a0"), line)  # not broken
        lines += textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False)
        if effect and len(lines[-1]) + len(effect) + 3 <= WIDTH:
            lines[-1] += f" / {effect}"
        elif effect:
            lines.append(f"  / {effect}")
    return lines if edge.share is None else [f"{edge.share} {lines[0]}", *lines[1:]]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _tooltip(tips: Sequence[str]) -> str:
    return _escaped("\n\n".join(tips))


def _legend(picture: Picture) -> str:
    """The caption, what colours and lines mean, and the words in the nodes, as one HTML-like label."""

    def cell(text: str, more: str = "") -> str:
        return f'<TD ALIGN="LEFT"{more}>{text}</TD>'

    colours = " &#160; ".join(
        f'<FONT COLOR="{COLOURS[actor]}"><B>{WHO.get(actor) or actor}</B></FONT>'
        for actor in COLOURS
        if any(edge.actor == actor for edge in picture.edges)
    )
    lines = "".join(
        f'<TD BORDER="2" SIDES="B" STYLE="{style}" WIDTH="40" HEIGHT="8" CELLPADDING="0"></TD>{cell(text)}'
        for style, text in (("solid", "must"), ("dashed", "should, may or definition"), ("dotted", "our choice"))
    )
    rows = [cell(f"<B>{html.escape(picture.title)}</B>")]
    rows += [cell(html.escape(line)) for line in picture.caption.split("\n")]
    if any(edge.share for edge in picture.edges):
        shares = [(GREEN, "all"), (AMBER, "some"), (RED, "none")]
        levels = " &#160; ".join(f'<FONT COLOR="{colour}"><B>{text}</B></FONT>' for colour, text in shares)
        rows.append(cell(f"Colour and n/m, pairs of a state and an event that were tried, of those possible: {levels}"))
    else:
        rows.append(cell(f"Colour, who acts: {colours}"))
    rows.append(
        f'<TD ALIGN="LEFT"><TABLE BORDER="0" CELLBORDER="0" CELLPADDING="2"><TR>{cell("Line, how binding:")}{lines}'
        "</TR></TABLE></TD>"
    )
    rows.append(cell("At an arrow: who acts: event [condition] / first effect. &#160; ↻: the box is not left."))
    if any(edge.actor == COUPLING for edge in picture.edges):
        rows.append(cell("A double line is a coupling: it applies by itself as soon as its condition holds."))
    if any(edge.kind is not Kind.OBEYED for edge in picture.edges):
        rows.append(cell("Arrowheads: a triangle is obeyed, a circle ignored, a bar refused."))
    rows += [cell(f"<B>{html.escape(word)}</B>: {html.escape(says)}") for word, says in picture.key]
    return f'<<TABLE BORDER="0" CELLSPACING="0">{"".join(f"<TR>{row}</TR>" for row in rows)}</TABLE>>'


# -------------------------------------------------------------------------------------------- elements


def _stays(picture: Picture, edge: Edge) -> str:
    """What happens without leaving a box stands in it, as in UML: in its actor's colour, underlined in its style."""
    colour = _colour(picture, edge)
    lines = '<BR ALIGN="LEFT"/>'.join(html.escape(line) for line in label_lines(edge))
    text = f'<FONT POINT-SIZE="11" COLOR="{colour}">↻ {lines}<BR ALIGN="LEFT"/></FONT>'
    text = f"<B>{text}</B>" if edge.taken else text
    return (
        f'<TR><TD ALIGN="LEFT" BALIGN="LEFT" BORDER="1" SIDES="B" STYLE="{STYLES[edge.binding]}" COLOR="{colour}">'
        f"{text}</TD></TR>"
    )


def _shade(share: Share) -> str:
    """The colour of a share. (It stands there in numbers, too.)"""
    return GREEN if share.done == share.of else AMBER if share.done else RED


def _tips(edge: Edge) -> list[str]:
    return [*([edge.share.says] if edge.share else []), *(label.tip for label in edge.labels)]


def _colour(picture: Picture, edge: Edge) -> str:
    if edge.share is not None:
        return _shade(edge.share)
    return GREY if picture.has_path and not edge.taken else COLOURS[edge.actor]


def _box(picture: Picture, node: Node) -> Drawn:
    stays = [edge for edge in picture.edges if edge.source == edge.target == node.name]
    rows = "".join(_stays(picture, edge) for edge in stays)
    dim = picture.has_path and not node.on_path
    name = "<BR/>".join(map(html.escape, node.text.split("\n")))
    if dim:
        name = f'<FONT COLOR="{GREY}">{name}</FONT>'
    if node.share is not None:
        name += f'<BR/><FONT COLOR="{_shade(node.share)}"><B>{node.share}</B></FONT>'
    attributes = {
        "label": f'<<TABLE BORDER="0" CELLSPACING="2" CELLPADDING="1"><TR><TD>{name}</TD></TR>{rows}</TABLE>>',
        "tooltip": _tooltip(
            [node.says, *([node.share.says] if node.share else []), *(tip for edge in stays for tip in _tips(edge))]
        ),
    }
    if node.name == END:
        attributes |= {"label": "", "shape": "doublecircle", "style": "filled", "width": "0.15"}
        attributes |= {"fillcolor": GREY if dim else "black"}
    elif node.final:
        attributes |= {"peripheries": "2"}
    if picture.has_path:
        attributes |= {"color": GREY} if dim else {"penwidth": "3"}
    elif node.share is not None:
        attributes |= {"color": _shade(node.share), "penwidth": "2"}
    return node.name, attributes


def _line(picture: Picture, edge: Edge) -> dict[str, str]:
    colour = _colour(picture, edge)
    attributes = {
        "color": f"{colour}:{colour}" if edge.actor == COUPLING else colour,
        "style": STYLES[edge.binding],
        "tooltip": _tooltip(_tips(edge)),
    }
    if edge.taken or edge.binding is Binding.MUST:
        attributes["penwidth"] = "4" if edge.taken else "1.5"
    return attributes


def _said(picture: Picture, edge: Edge) -> dict[str, str]:
    text = "".join(f"{_escaped(line)}\\l" for line in label_lines(edge))
    return {"label": text, "fontcolor": _colour(picture, edge)}


class _Elements:
    """The nodes and edges as `dot` gets them.

    A column is a frame of a picture whose arrows join frames: its boxes stand one below the other, and what leads from
    one to the next is said on the way. (Arrows within a rank are drawn from below, which is how `dot` orders them.)
    """

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.nodes: list[Drawn] = [(START, {"shape": "circle", "style": "filled", "fillcolor": "black", "label": ""})]
        self.nodes[0][1]["width"] = "0.15"
        self.edges: list[tuple[str, str, dict[str, str]]] = []
        self.columns: dict[str, list[str]] = {}
        frames = {cluster.name for cluster in picture.clusters}
        merged = any({edge.source, edge.target} & frames for edge in picture.edges)
        self.nodes += [_box(picture, node) for node in picture.nodes]
        if merged:
            for frame in picture.clusters:
                self._column(frame.name)
        self.edges += [(START, node.name, {}) for node in picture.nodes if node.initial]
        frame_of = {node.name: node.cluster for node in picture.nodes}
        for edge in picture.edges:
            within = merged and frame_of.get(edge.source) is not None
            if edge.source != edge.target and not (within and frame_of[edge.source] == frame_of.get(edge.target)):
                self._arrow(edge)

    def _arrow(self, edge: Edge) -> None:
        """An arrow at a frame is tied to one of its boxes and clipped at the frame."""
        attributes = _line(self.picture, edge) | _said(self.picture, edge) | {"arrowhead": HEADS[edge.kind]}
        attributes["labeltooltip"] = attributes["tooltip"]
        ends = []
        for end, clip in ((edge.source, "ltail"), (edge.target, "lhead")):
            within = self.columns.get(end, [])
            if within:
                attributes[clip] = f"cluster_{end}"
            ends.append(within[len(within) // 2] if within else end)
        self.edges.append((ends[0], ends[1], attributes))

    def _column(self, frame: str) -> None:
        boxes = [node.name for node in self.picture.nodes if node.cluster == frame]
        column: list[str] = []
        joined: set[tuple[str, str]] = set()
        for box in boxes:
            column.append(box)
            for edge in self.picture.edges:
                if edge.source == box != edge.target and edge.target in boxes:
                    said = f"{box} to {edge.target}, {edge.actor} {edge.binding}"
                    line = _line(self.picture, edge)
                    text = _said(self.picture, edge) | {"tooltip": line["tooltip"], "shape": "plain", "fontsize": "11"}
                    self.nodes.append((said, text | {"style": "", "fillcolor": "none"}))
                    self.edges.append((said, box, line | {"dir": "none"}))
                    self.edges.append((edge.target, said, line | {"dir": "back", "arrowtail": HEADS[edge.kind]}))
                    joined |= {(said, box), (edge.target, said)}
                    column.append(said)
        stays = [edge for edge in self.picture.edges if edge.source == edge.target == frame]
        if stays:
            rows = "".join(_stays(self.picture, edge) for edge in stays)
            tip = _tooltip([tip for edge in stays for tip in _tips(edge)])
            table = f'<<TABLE BORDER="0" CELLSPACING="2" CELLPADDING="1">{rows}</TABLE>>'
            column.append(f"in {frame}")
            self.nodes.append((column[-1], {"label": table, "tooltip": tip, "shape": "plain", "style": ""}))
        for above, below in pairwise(column):
            if (below, above) not in joined:
                self.edges.append((below, above, {"style": "invis"}))
        self.columns[frame] = column


def source(picture: Picture, comment: str = "") -> str:
    """The picture as DOT. Raises `DrawingError` without the Python package; needs no `dot`."""
    return str(_digraph(picture, comment).source)


def _graphviz() -> Any:
    try:
        import graphviz
    except ImportError:
        raise DrawingError(f"DOT, SVG, PNG and PDF need the Python package `graphviz`. {INSTALL}") from None
    return graphviz


def _digraph(picture: Picture, comment: str) -> Any:
    graphviz = _graphviz()
    drawn = _Elements(picture)
    graph = graphviz.Digraph(picture.name, comment=comment or None)
    direction = "TB" if len(picture.edges) < 12 else "LR"  # many labels stack better between columns than between rows
    graph.attr("graph", compound="true", fontname=FONTS, fontsize="11", labelloc="b", labeljust="l", rankdir=direction)
    graph.attr("graph", nodesep="0.12", ranksep="0.25", bgcolor="white", tooltip=picture.title, label=_legend(picture))
    graph.attr("node", fontname=FONTS, fontsize="12", shape="box", style="rounded,filled", fillcolor="white")
    graph.attr("edge", fontname=FONTS, fontsize="11")
    framed: set[str] = set()
    for cluster in picture.clusters:
        column = drawn.columns.get(cluster.name)
        inside = column or [node.name for node in picture.nodes if node.cluster == cluster.name]
        framed |= set(inside)
        with graph.subgraph(name=f"cluster_{cluster.name}") as frame:
            says = "".join(f"<BR/>{html.escape(line)}" for line in textwrap.wrap(cluster.says, 32)) if column else ""
            frame.attr(label=f'<<FONT POINT-SIZE="14"><B>{cluster.name}</B></FONT>{says}>', labelloc="t")
            frame.attr(style="rounded,filled", color="#707070", fillcolor="#f4f4f4", tooltip=cluster.says)
            with frame.subgraph() as body:
                if column:
                    body.attr(rank="same")
                for name, attributes in drawn.nodes:
                    if name in inside:
                        body.node(name, **attributes)
    for name, attributes in drawn.nodes:
        if name not in framed:
            graph.node(name, **attributes)
    for tail, head, attributes in drawn.edges:
        graph.edge(tail, head, **attributes)
    return graph


# -------------------------------------------------------------------------------------------- programs


def render(picture: Picture, kind: str) -> bytes:
    """The picture as `svg`, `png` or `pdf`. Raises `DrawingError` where the package or the program is missing."""
    return _piped(_digraph(picture, ""), kind)


def _piped(graph: Any, kind: str) -> bytes:
    """What `dot` makes of a graph."""
    import graphviz

    try:
        drawn = bytes(graph.pipe(format=kind))
    except graphviz.ExecutableNotFound:
        raise DrawingError(
            f"{kind.upper()} needs the program `dot` of Graphviz, which is not here. {INSTALL}"
        ) from None
    except (graphviz.CalledProcessError, OSError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise DrawingError(f"`dot` failed: {said.decode() if isinstance(said, bytes) else said}".strip()) from None
    return drawn


class Arrow(NamedTuple):
    """A step of two machines: which of them have it."""

    source: str
    target: str
    event: str
    one: bool
    other: bool


ONE, OTHER, BOTH = ("#b84a00", "dashed"), ("#0061a8", "bold"), ("#5a5a5a", "solid")
"""Colour and style of what only one machine has, only the other, and both: each tells without the other."""


def both(arrows: Sequence[Arrow], names: tuple[str, str], kind: str) -> bytes:
    """Two machines in one picture, as `dot`, `svg`, `png` or `pdf`. Raises `DrawingError`."""
    graphviz = _graphviz()
    graph = graphviz.Digraph("difference")
    legend = [(f"only {names[0]}", ONE), (f"only {names[1]}", OTHER), ("both", BOTH)]
    rows = "".join(
        f'<TR><TD ALIGN="LEFT"><FONT COLOR="{colour}">{html.escape(name)}: {style}</FONT></TD></TR>'
        for name, (colour, style) in legend
    )
    label = f'<<TABLE BORDER="0" CELLBORDER="0">{rows}</TABLE>>'
    graph.attr("graph", fontname=FONTS, fontsize="11", rankdir="LR", bgcolor="white", labelloc="b", labeljust="l")
    graph.attr("graph", label=label, nodesep="0.3", ranksep="0.6")
    graph.attr("node", fontname=FONTS, fontsize="12", shape="box", style="rounded,filled", fillcolor="white")
    graph.attr("edge", fontname=FONTS, fontsize="10")
    events: dict[tuple[str, str, bool, bool], list[str]] = {}
    for arrow in arrows:
        events.setdefault((arrow.source, arrow.target, arrow.one, arrow.other), []).append(arrow.event)
    for (source, target, one, other), together in events.items():
        colour, style = BOTH if one and other else ONE if one else OTHER
        text = "\\l".join(together) + "\\l"
        graph.edge(source, target, label=text, color=colour, fontcolor=colour, style=style)
    return str(graph.source).encode() if kind == "dot" else _piped(graph, kind)


def stamped(png: bytes, text: str) -> bytes:
    """The PNG with a comment in a tEXt chunk behind its header: what it was drawn from."""
    body = b"tEXtComment\0" + text.encode("latin-1")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header = 8 + 25  # the signature, then the chunk IHDR
    return png[:header] + chunk + png[header:]


def stamp(dot: str) -> str:
    """What a PNG of ours says about itself: the digest of the DOT that it was drawn from."""
    return f"drawn from DOT with SHA-256 {hashlib.sha256(dot.encode()).hexdigest()}"


def stamp_of(png: bytes) -> str:
    """The comment that `stamped` wrote; empty where there is none."""
    if png[37:49] != b"tEXtComment\0":
        return ""
    (length,) = struct.unpack(">I", png[33:37])
    return png[49 : 41 + length].decode("latin-1")


def version() -> str:
    """The release of the `dot` that is here, and all that its output depends on; empty where anything is not known.

    Text is measured with the font's and the libraries' help, so that only two machines which agree in all of this
    draw the same bytes.
    """
    commands = (
        ("dot", "-V"),
        ("fc-match", "-f", "font %{family} %{fontversion} %{antialias} %{hinting} %{hintstyle} %{rgba}\n", FONT),
        ("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\n", *PACKAGES),
    )
    said = []
    for command in commands:
        try:
            ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            return ""
        said.append((ran.stdout or ran.stderr).strip())
    return "\n".join(said) + "\n"


# -------------------------------------------------------------------------------------------- comparing SVG

Shown = tuple[str, str, str, str]
"""A node or an edge in an SVG: its class, title, tooltips and text, without any blanks."""


def _bare(text: str) -> str:
    return "".join(text.split())


def _text_of(label: str) -> str:
    if label.startswith("<"):
        return _bare("".join(ElementTree.fromstring(label[1:-1].replace("<BR/>", " ")).itertext()))
    return _bare(label.replace("\\l", " ").replace("\\n", " "))


def shown_in(svg: bytes) -> list[Shown]:
    """The nodes and edges that an SVG of `dot` shows."""
    svg_ns, title = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}title"
    found = []
    for group in ElementTree.fromstring(svg).iter(f"{svg_ns}g"):
        if group.get("class") in ("node", "edge"):
            tips = sorted({_bare(anchor.get(title, "")) for anchor in group.iter(f"{svg_ns}a")})
            text = _bare("".join(line for part in group.iter(f"{svg_ns}text") for line in part.itertext()))
            found.append((group.get("class", ""), _bare(group.findtext(f"{svg_ns}title", "")), "".join(tips), text))
    return sorted(found)


def to_be_shown(picture: Picture) -> list[Shown]:
    """The nodes and edges that an SVG of this picture has to show, whoever drew it."""
    drawn = _Elements(picture)
    named = [("node", name, attributes) for name, attributes in drawn.nodes]
    named += [
        ("edge", f"{a}->{b}", attributes) for a, b, attributes in drawn.edges if attributes.get("style") != "invis"
    ]
    return sorted(
        (kind, _bare(name), _bare(given.get("tooltip", "").replace("\\n", " ")), _text_of(given.get("label", "")))
        for kind, name, given in named
    )
