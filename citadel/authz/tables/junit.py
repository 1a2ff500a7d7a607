"""What became of tables, in JUnit's XML, as CI systems read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree as ET  # only written, never read

from citadel.authz.tables.trial import Trial

#: What no XML 1.0 document may hold, escaped or not (section 2.2).
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(trials: Sequence[Trial]) -> str:
    """One test suite for each table, one test case for each of its cases."""
    suites = ET.Element("testsuites", name="citadel policy test")
    for trial in trials:
        suite = ET.SubElement(suites, "testsuite", name=_text(trial.table.file))
        suite.attrib |= {"tests": str(len(trial.results)), "failures": str(len(trial.failed)), "errors": "0"}
        for result in trial.results:
            case = ET.SubElement(suite, "testcase", name=_text(result.case.name), classname=_text(trial.table.file))
            if result.differences:
                failure = ET.SubElement(case, "failure", message=_text("; ".join(result.differences)))
                failure.text = _text(result.explanation.to_tree())
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
