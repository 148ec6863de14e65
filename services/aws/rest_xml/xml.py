"""XML that came from outside: bounded, without document types, read into plain elements.

A document type is the door to entities, bombs and files of ours, and no client of these protocols
sends one; whoever does is refused before anything is made of it.
"""

from __future__ import annotations

from typing import Final

from lxml import etree

from mallee.aws.rest_xml.errors import RestError

DEEPEST: Final = 24  # the deepest shape of the S3 model has 9 levels
MALFORMED: Final = "The XML you provided was not well-formed or did not validate against our published schema"


def malformed(why: str = "") -> RestError:
    """The error of XML that is not what was asked for."""
    return RestError("MalformedXML", f"{MALFORMED}: {why}" if why else MALFORMED)


def parse(document: bytes) -> etree._Element:
    """The root element.

    Raises:
        RestError: MalformedXML.
    """
    if b"<!D" in document or document[:2] in {b"\xfe\xff", b"\xff\xfe"}:
        raise malformed("a document type or an encoding other than UTF-8 is not accepted.")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        recover=False,
        encoding="utf-8",
    )
    try:
        root = etree.fromstring(document, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise malformed() from error
    if root.getroottree().docinfo.doctype or _depth(root) > DEEPEST:
        raise malformed("it is nested too deeply.")
    return root


def _depth(root: etree._Element) -> int:
    depth = deepest = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        deepest = max(deepest, depth)
    return deepest


def local_name(element: etree._Element) -> str:
    """The name without its namespace: clients write one, another, or none."""
    tag = element.tag
    if not isinstance(tag, str):  # an entity that nobody declared
        raise malformed()
    return tag[tag.rfind("}") + 1 :]
