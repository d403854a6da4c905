"""What can be wrong with a spec: a closed list of codes, each with its meaning.

A finding names the code, the line and the fix. Codes are never reused. Those below WSL030 are structural: the file
means nothing definite, and every profile is rejected. From WSL030 on they are about soundness: they reject the
`reference` profile and are recorded for another one, because real servers do have traps. WSL034 takes a search and is
found by `check`, not at load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CODES: dict[str, str] = {
    "WSL001": "The file cannot be read as YAML.",
    "WSL002": "YAML 1.1 reads this word as a boolean; quote it or choose another word.",
    "WSL003": "A key stands twice in one mapping; YAML would silently keep the last.",
    "WSL004": "An unknown key.",
    "WSL005": "A required key is missing.",
    "WSL006": "A value has the wrong type or is not one of the allowed words.",
    "WSL010": "A rule number that neither `rules` nor `choices` defines.",
    "WSL011": "A name that is not declared.",
    "WSL012": "A name that collides with another one, or that transitions would silently skip.",
    "WSL013": "A choice or an answer that does not exist.",
    "WSL014": "An answer that selects neither a row nor a value, or the same as another answer.",
    "WSL015": "A reference (`$x.y`) to a value that is not given there.",
    "WSL016": "The fields that are written are not the fields that are declared.",
    "WSL017": "A row does not say exactly one thing.",
    "WSL018": "A property that cannot be read.",
    "WSL019": "A declaration that nothing uses.",
    "WSL020": "A hole: an event has no answer in a state that can be reached.",
    "WSL021": "An overlap: two rows answer the same event in the same state.",
    "WSL022": "The couplings do not settle.",
    "WSL023": "A variable is assigned twice, or read before it is assigned.",
    "WSL024": "receive() could give two different messages in one state.",
    "WSL025": "A message and an event that contradict each other.",
    "WSL026": "A refusal that nobody would hear: only who calls receive() or send() can be told.",
    "WSL030": "A state that can never be reached.",
    "WSL031": "A trap: a state from which the end cannot be reached.",
    "WSL032": "Two states that nobody can tell apart.",
    "WSL033": "A row that never answers anything.",
    "WSL034": "A property that does not hold.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a spec. `line` is the line of the YAML file, counted from 1."""

    code: str
    line: int
    text: str
    fix: str
    file: str = "spec/lifecycle.yaml"

    @property
    def structural(self) -> bool:
        """True when the spec means nothing definite, so that no profile can be compiled."""
        return self.code < "WSL030"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code} {self.text} {self.fix}".rstrip()


class SpecError(ValueError):
    """The spec is rejected. `findings` holds every reason that was found, in the order of the file."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(sorted(findings, key=lambda finding: (finding.line, finding.code)))
        super().__init__("\n".join(str(finding) for finding in self.findings))
