"""What a drone writes into XMP: height above take-off, deviations of its position."""

import pytest

from tests.support.pictures import colours, exif, save
from tpsfm.photos import PhotoCatalog, read_photo

PLACE = {1: "N", 2: (10.0, 30.0, 0.0), 3: "W", 4: (20.0, 0.0, 36.0), 5: b"\0", 6: 120.0}
PACKET = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:drone-dji="http://www.dji.com/drone-dji/1.0/" {attributes}>{elements}</rdf:Description>
</rdf:RDF></x:xmpmeta>"""
FIXED = """drone-dji:RelativeAltitude="+29.90" drone-dji:RtkFlag="50" drone-dji:RtkStdLon="0.011"
drone-dji:RtkStdLat = "0.012" drone-dji:RtkStdHgt="0.025" drone-dji:Version="1.3 x" """


def written(path, attributes="", elements="", place=PLACE):
    packet = PACKET.format(attributes=attributes, elements=elements).encode()
    return save(path, colours(), exif=exif({}, {}, place), xmp=packet)


def test_an_rtk_drone(tmp_path):
    photo = read_photo(written(tmp_path / "a.jpg", FIXED))
    assert photo.relative_altitude == 29.9 and photo.gps[2] == 120
    assert photo.gps_deviation == (0.011, 0.012, 0.025)
    with PhotoCatalog(tmp_path, tmp_path / "photos.json") as catalog:
        first = catalog["a.jpg"]
    with PhotoCatalog(tmp_path, tmp_path / "photos.json") as catalog:
        assert catalog["a.jpg"] == first and first.gps_deviation == photo.gps_deviation


def test_up_by_the_gimbal(tmp_path):
    def up(roll, pitch):
        said = f'drone-dji:GimbalRollDegree="{roll:+.2f}" drone-dji:GimbalPitchDegree="{pitch:+.2f}"'
        return read_photo(written(tmp_path / "a.jpg", said)).up

    assert up(0, -90) == pytest.approx((0, 0, -1), abs=1e-9)  # looks down
    assert up(0, 0) == pytest.approx((0, -1, 0), abs=1e-9)
    assert up(90, 0) == pytest.approx((-1, 0, 0), abs=1e-9)  # its right side is below
    assert read_photo(written(tmp_path / "a.jpg", FIXED)).up is None


@pytest.mark.parametrize("flag", ["0", "16", "none"])
def test_deviations_of_no_rtk_solution_are_unknown(tmp_path, flag):
    photo = read_photo(written(tmp_path / "a.jpg", FIXED.replace('"50"', f'"{flag}"')))
    assert photo.gps_deviation is None and photo.relative_altitude == 29.9


def test_elements_and_other_formats(tmp_path):
    elements = "<drone-dji:RelativeAltitude>-3.5</drone-dji:RelativeAltitude>"
    for suffix in ("jpg", "webp"):
        assert read_photo(written(tmp_path / f"a.{suffix}", elements=elements)).relative_altitude == -3.5
    assert read_photo(save(tmp_path / "b.jpg", colours())).relative_altitude is None


def test_the_horizontal_error_of_a_phone(tmp_path):
    photo = read_photo(save(tmp_path / "a.jpg", colours(), exif=exif({}, {}, {**PLACE, 31: 5.0})))
    assert photo.gps_deviation[:2] == pytest.approx((3.5355, 3.5355), abs=1e-3)
