"""Pictures of the documents show what they say they show."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from tools import recording

IMAGES = recording.CAST.parent
SVG = "{http://www.w3.org/2000/svg}"


def test_the_animation_is_the_recording() -> None:
    """Made from docs/images/demo.cast, which `python -m tools.recording record` makes of a real run."""
    cast = recording.CAST.read_text(encoding="utf-8")
    assert recording.PICTURE.read_text(encoding="utf-8") == recording.picture(cast)
    assert "checks, all ok" in cast


def test_a_terminal_that_is_recorded() -> None:
    """Escapes go, a line that is written over shows its end, pauses become short."""
    events = [(0.0, "one\r\ntw"), (1.0, "o\x1b[32m!\x1b[0m\r\n"), (500.0, "10%\r100%\n")]
    found = list(recording.lines(recording.write_cast(events)))
    assert found == [(0.0, "one"), (1.0, "two!"), (500.0, "100%")]
    assert recording.moments(when for when, _ in found) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("picture", sorted(IMAGES.glob("*.svg")), ids=lambda path: path.name)
def test_pictures_are_whole_and_load_nothing(picture: recording.Path) -> None:
    """Well-formed, with a title for those who cannot see them, and without scripts or addresses."""
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    assert root.tag == f"{SVG}svg"
    assert root.find(f"{SVG}title") is not None
    text = picture.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert "<script" not in text
    assert "href=" not in text
