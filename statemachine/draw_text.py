"""Renders a picture as text that needs no library: a Mermaid state diagram, or tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from wslifecycle.statemachine.model import Spec
from wslifecycle.statemachine.picture import COUPLING, END, Binding, Edge, Kind, Label, Node, Picture

ACTORS = {
    "app": "the application, by `send()` or by ending",
    "peer": "the client",
    "server": "the server",
    "clock": "a timer of the server",
    "given": "what `receive()` gives to the app",
    COUPLING: "nobody: it applies by itself as soon as its condition holds",
}
BINDINGS = {
    Binding.MUST: "a rule of ASGI or an RFC says must",
    Binding.SHOULD: "a rule says should or may, defines it or informs about it",
    Binding.CHOICE: "the documents are silent; it is our answer to a choice",
}


# -------------------------------------------------------------------------------------------- mermaid


def mermaid(picture: Picture, comment: str = "") -> str:
    """The picture as a Mermaid `stateDiagram-v2`.

    Mermaid has no colours or styles for arrows, so that who acts and how binding it is stand in words. Nor can an
    arrow join boxes of two frames: frames are drawn where the picture's arrows join the frames themselves.
    """
    frames = {cluster.name for cluster in picture.clusters}
    framed = any({edge.source, edge.target} & frames for edge in picture.edges)
    lines = [f"%% {comment}"] if comment else []
    lines += ["stateDiagram-v2", "    direction LR"]
    for cluster in picture.clusters if framed else ():
        lines.append(f"    state {_id(cluster.name)} {{")
        boxes = [node for node in picture.nodes if node.cluster == cluster.name]
        lines += [f"        {line}" for node in boxes for line in _declared(node, node.text)]
        if any(node.initial for node in boxes):
            lines += [f"        [*] --> {_id(node.name)}" for node in boxes if node.initial]
        names = [node.name for node in boxes]
        for edge in picture.edges:
            if edge.source in names and edge.target in names:
                lines.append(f"        {_arrow(edge, edge.source, edge.target)}")
            elif edge.source == edge.target == cluster.name:  # Mermaid cannot lead a frame to itself
                lines += [f"        {_arrow(edge, name, name)}" for name in names]
        lines.append("    }")
    if not framed:
        lines += [f"    {line}" for node in picture.nodes for line in _declared(node, node.name)]
    lines += [
        f"    [*] --> {_id(node.cluster if framed and node.cluster else node.name)}" for node in _initial(picture)
    ]
    frame_of = {node.name: node.cluster for node in picture.nodes} if framed else {}
    for edge in picture.edges:
        inside = edge.source == edge.target in frames or frame_of.get(edge.source) is not None
        if not inside:
            lines.append(f"    {_arrow(edge, edge.source, edge.target)}")
    lines += [f"    {_id(node.name)} --> [*]" for node in picture.nodes if node.final and node.name != END]
    if picture.has_path:
        lines += ["    classDef passed stroke-width:4px", "    classDef other color:#b8b8b8,stroke:#b8b8b8"]
        for node in picture.nodes:
            if node.name != END:
                lines.append(f"    class {_id(node.name)} {'passed' if node.on_path else 'other'}")
    return "\n".join(lines) + "\n"


def _initial(picture: Picture) -> list[Node]:
    return [node for node in picture.nodes if node.initial]


def _id(name: str) -> str:
    return name if name == END else name.replace("/", "__")


def _declared(node: Node, text: str) -> list[str]:
    return [] if node.name == END else [f'state "{text.replace(chr(10), " ")}" as {_id(node.name)}']


def _arrow(edge: Edge, source: str, target: str) -> str:
    mark = "" if edge.kind is Kind.OBEYED else f" {edge.kind}"
    who = "receive()" if edge.actor == "given" else edge.actor
    said = "<br/>".join(events + (f" / {effect}" if effect else "") for events, effect in edge.said)
    text = f"{who}, {edge.binding}{mark}<br/>{said}"  # a colon or semicolon would end the text
    return f"{_id(source)} --> {_id(target)} : {text}"


# -------------------------------------------------------------------------------------------- markdown


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = tuple(head)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(cell.replace('|', '&#124;').replace(chr(10), ' ') for cell in row)} |" for row in rows]
    return [*lines, ""]


def markdown(picture: Picture, spec: Spec, comment: str = "") -> str:
    """The picture as tables: what the states mean, in each state who may do what, and the legend."""
    lines = [f"<!-- {comment} -->", ""] if comment else []
    lines += [f"# {picture.title}", "", *picture.caption.split("\n"), "", "## The states", ""]
    frames = [(cluster.name, cluster.says) for cluster in picture.clusters]
    lines += _table(["State", "What it means"], [(f"`{name}`", says) for name, says in [*frames, *picture.key]])
    places = [cluster.name for cluster in picture.clusters] or [node.name for node in picture.nodes]
    frame_of = {node.name: node.cluster for node in picture.nodes}
    for place in places:
        rows = [
            _row(edge, label, frame_of, spec)
            for edge in picture.edges
            for label in edge.labels
            if place in (edge.source, frame_of.get(edge.source))
        ]
        lines += [f"## In `{place}`", ""]
        lines += _table(["Who", "Event", "From", "Leads to", "Effects", "Binding", "Rule"], rows) if rows else [""]
    lines += ["## Legend", ""]
    actors = [actor for actor in ACTORS if any(edge.actor == actor for edge in picture.edges)]
    lines += _table(["Who", "What that is"], [(_who(actor), ACTORS[actor]) for actor in actors])
    lines += _table(["Binding", "What that means"], [(str(binding), says) for binding, says in BINDINGS.items()])
    return "\n".join(lines).rstrip("\n") + "\n"


def _who(actor: str) -> str:
    return "receive()" if actor == "given" else actor


def _row(edge: Edge, label: Label, frame_of: dict[str, str | None], spec: Spec) -> list[str]:
    number = f"**({', '.join(map(str, label.taken))})** " if label.taken else ""
    guard = f" if {label.guard}" if label.guard else ""
    framed = frame_of.get(edge.source)
    source = "every box" if edge.source not in frame_of else f"`{edge.source.removeprefix(f'{framed}/')}`"
    target = "the end" if edge.target == END else f"`{edge.target.removeprefix(f'{framed}/')}`"
    if edge.kind is not Kind.OBEYED:
        target = str(edge.kind)
    elif edge.source == edge.target:
        target = "stays"
    effects = f"`{label.does}`" if label.does else ""
    event = label.text if edge.actor == COUPLING else f"`{label.text}`{guard}"
    return [_who(edge.actor), f"{number}{event}", source, target, effects, str(edge.binding), spec.cite(label.rule)]
