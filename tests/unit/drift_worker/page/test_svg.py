"""SVG elements, and a picture that is a file by itself."""

from xml.etree import ElementTree as ET

from drift_worker.page import svg


def test_coordinates_are_tenths_and_sizes_are_not_negative():
    """A bar of a value below the axis has no width."""
    assert svg.rect(1.26, 2, -3, 4.04) == '<rect x="1.3" y="2.0" width="0.0" height="4.0"></rect>'
    assert svg.line(0, 0.04, 1, 2, stroke="red") == '<line x1="0.0" y1="0.0" x2="1.0" y2="2.0" stroke="red"></line>'


def test_text_is_escaped():
    """A feature may have any name."""
    assert svg.text("<a> & b", 1, 2, "end", fill=None) == (
        '<text x="1.0" y="2.0" text-anchor="end">&lt;a&gt; &amp; b</text>'
    )


def test_a_document_is_well_formed_with_a_title_and_a_background():
    """A file is shown on light and dark pages alike."""
    text = svg.document("a < b", 100, 50, [svg.circle(1, 2, 3), svg.text("x", 0, 0)])
    root = ET.fromstring(text)  # noqa: S314 - made here
    assert (root.get("viewBox"), root.get("width")) == ("0 0 100 50", "100")
    assert [element.tag.rpartition("}")[2] for element in root] == ["title", "rect", "circle", "text"]
    assert (root[0].text, root[1].get("fill")) == ("a < b", svg.BACKGROUND)
    assert text.endswith("</svg>\n")
