"""Headers that contradict themselves are refused, or a warning names both values."""

from datetime import datetime, timedelta

import pytest

pytest.importorskip("pydicom", reason="pip install -r requirements-scan.txt")

import pydicom

from scan import agreement
from scan.dicom_in import check_one_image
from scan.errors import ScanError
from scan.suv import Given, suv_of
from tests.support.pet_series import FACTOR, datasets, header

ONE_HOUR_EARLIER = {
    "RadiopharmaceuticalStartTime": "090000",
    "RadiopharmaceuticalStartDateTime": "20240115090000",
}


def series(where: int, **changes) -> list:
    """Three slices, of which one has another header."""
    headers = [header() for _ in range(3)]
    headers[where] = header(**changes)
    return headers


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize(
    ("changes", "message", "given"),
    [
        ({"PatientWeight": 80}, "PatientWeight .* 80.* give --weight KG", {"weight": 70.0}),
        ({"PatientWeight": None}, "PatientWeight .* missing.* --weight", {"weight": 70.0}),
        ({"RadionuclideTotalDose": 175e6}, "TotalDose .* 175000000.* --dose", {"dose": 350e6}),
        ({"RadionuclideHalfLife": 4e3}, "HalfLife .* 4000.* --half-life", {"half_life": 6586.2}),
        (
            ONE_HOUR_EARLIER,
            "StartTime .* 090000.* --injection-time",
            {"injection_time": datetime(2024, 1, 15, 10)},
        ),
        (
            {"SeriesTime": "113000"},
            "SeriesTime .* 113000.* --scan-time",
            {"scan_time": datetime(2024, 1, 15, 11)},
        ),
        ({"Units": "GML"}, "Units .*BQML", None),
        ({"CorrectedImage": ["ATTN"]}, "slices differ in CorrectedImage", None),
    ],
)
def test_slices_that_disagree_are_refused_and_the_option_decides(where, changes, message, given):
    headers = series(where, **changes)
    with pytest.raises(ScanError, match=message):
        suv_of(headers)
    if given:
        assert suv_of(headers, Given(**given)).factor == pytest.approx(FACTOR, rel=1e-6)


def test_rounding_and_form_are_no_difference():
    same = {
        "PatientWeight": "70.0",
        "RadionuclideTotalDose": "3.5e8",
        "RadiopharmaceuticalStartTime": "100000.00",
        "RadiopharmaceuticalStartDateTime": "20240115100000.000",
        "SeriesTime": "110000.0",
    }
    assert suv_of(series(1, **same)).factor == pytest.approx(FACTOR, rel=1e-6)


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("moment", ["20240115090000", "20240114100000", "20240115100000+0000"])
def test_a_start_date_time_that_differs_is_refused(where, moment):
    with pytest.raises(ScanError, match=r"differ in RadiopharmaceuticalStartDateTime"):
        suv_of(series(where, RadiopharmaceuticalStartDateTime=moment))


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_series_date_that_differs_is_refused(where):
    with pytest.raises(ScanError, match=r"differ in SeriesDate .*20240116.*--scan-time"):
        suv_of(series(where, SeriesDate="20240116"))
    assert agreement.same("SeriesDate", "20240115", "2024.01.15")  # as old files have it


def test_a_second_injection_in_any_slice_counts():
    headers = [header() for _ in range(3)]
    (item,) = headers[2].RadiopharmaceuticalInformationSequence
    again = header(RadionuclideTotalDose=100e6).RadiopharmaceuticalInformationSequence[0]
    headers[2].RadiopharmaceuticalInformationSequence = [item, again]
    with pytest.raises(ScanError, match=r"2 injections .* differ in RadionuclideTotalDose"):
        suv_of(headers)
    form = {"RadionuclideTotalDose": "350000000.0", "RadiopharmaceuticalStartTime": "100000.00"}
    again = header(**form).RadiopharmaceuticalInformationSequence[0]
    headers[2].RadiopharmaceuticalInformationSequence = [item, again]
    assert suv_of(headers).factor == pytest.approx(FACTOR)


def test_an_acquisition_with_an_offset_is_not_taken_for_the_scanners_clock():
    only = {"AcquisitionDate": None, "AcquisitionTime": None}
    offset = {"AcquisitionDateTime": "20240115100000+0000"}  # 11:00 on the scanner's clock
    minutes, (warning,) = uptake(**only, **offset)
    assert minutes == 60
    assert "AcquisitionDateTime (0008,002A) has an offset" in warning
    assert uptake(**only, **offset, TimezoneOffsetFromUTC="+0100") == (60, [])


def test_private_values_that_differ_are_named():
    headers = [header(), header()]
    for about, moment in zip(headers, ("20240115110000", "20240115120000.00"), strict=True):
        block = about.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "DT", moment)
    message = r"GE's scan time \(0009,100D\): 20240115110000 and 20240115120000.00; give --scan"
    with pytest.raises(ScanError, match=message):
        suv_of(headers)
    headers[1][0x0009, 0x100D].value = "20240115110000.00"
    assert suv_of(headers).factor == pytest.approx(FACTOR)
    counts = [header(Units="CNTS"), header(Units="CNTS")]
    for about, factor in zip(counts, ("0.5", "0.25"), strict=True):
        block = about.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", factor)
    with pytest.raises(ScanError, match=r"SUV factor \(7053,1000\): 0.5 and 0.25; give --suv"):
        suv_of(counts)


def test_geometry_may_differ_by_rounding_alone():
    headers = [datasets()[0] for _ in range(2)]
    headers[0].PixelSpacing, headers[1].PixelSpacing = [4.07249, 4.0], [4.07251, 4.0]
    check_one_image(headers)
    headers[1].PixelSpacing = [4.1, 4.0]
    with pytest.raises(ScanError, match=r"PixelSpacing \(0028,0030\): 4.07249\\4 and 4.1\\4"):
        check_one_image(headers)


def test_what_names_a_patient_is_not_told():
    with pytest.raises(ScanError) as refused:
        suv_of(series(1, Units="MUELLER"))
    assert "MUELLER" not in str(refused.value)


def uptake(**changes) -> tuple[float, list[str]]:
    found = suv_of([header(**changes)])
    return found.uptake_minutes, list(found.warnings)


def test_a_date_time_with_an_offset_gives_way_to_the_time_where_no_zone_is_known():
    offset = "20240115090000+0000"  # 10:00 on the scanner's clock
    minutes, (warning,) = uptake(RadiopharmaceuticalStartDateTime=offset)
    assert minutes == 60
    assert "2024-01-15 09:00:00" in warning
    assert "10:00:00" in warning
    assert uptake(RadiopharmaceuticalStartDateTime=offset, TimezoneOffsetFromUTC="+0100") == (
        60,
        [],
    )
    minutes, (warning,) = uptake(
        RadiopharmaceuticalStartDateTime=offset, RadiopharmaceuticalStartTime=None
    )
    assert minutes == 120
    assert "nothing says the offset" in warning


def test_a_date_time_goes_before_a_time_that_contradicts_it():
    minutes, (warning,) = uptake(RadiopharmaceuticalStartDateTime="20240115093000")
    assert minutes == 90
    assert "2024-01-15 09:30:00" in warning
    assert "10:00:00" in warning


def test_ges_scan_time_after_the_acquisitions_is_not_used():
    about = header()
    block = about.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", "20240115140000")
    found = suv_of([about])
    assert found.uptake_minutes == 60
    assert "14:00:00" in found.warnings[0]
    assert "11:00:00" in found.warnings[0]


def test_a_series_long_before_its_acquisitions_is_warned_of():
    minutes, (warning,) = uptake(SeriesTime="101500")
    assert minutes == 15
    assert "10:15:00" in warning
    assert "11:00:00" in warning


def test_several_injections_that_differ_are_refused():
    about = header()
    (first,) = about.RadiopharmaceuticalInformationSequence
    again = header(RadionuclideTotalDose=100e6).RadiopharmaceuticalInformationSequence[0]
    about.RadiopharmaceuticalInformationSequence = [first, again]
    with pytest.raises(ScanError, match=r"2 injections .* differ in RadionuclideTotalDose"):
        suv_of([about])
    assert suv_of([about], Given(dose=350e6)).factor == pytest.approx(FACTOR)
    about.RadiopharmaceuticalInformationSequence = [first, first]
    assert suv_of([about]).factor == pytest.approx(FACTOR)


def test_the_factor_is_for_values_that_are_no_suv_yet():
    found = suv_of([header(Units="GML")], Given(suv_factor=0.5))
    assert found.factor == 1
    assert "not applied" in found.warnings[0]
    assert suv_of([header(Units="GML", SUVType="LBM")], Given(suv_factor=0.5)).factor == 0.5
    assert suv_of([header()], Given(suv_factor=0.5)).factor == 0.5


@pytest.mark.parametrize("dose", [350, 350e9])
def test_a_dose_that_is_none_is_refused(dose):
    with pytest.raises(ScanError, match="no dose in becquerel; give --dose MBQ"):
        suv_of([header(RadionuclideTotalDose=dose)])


def test_without_any_date_the_advice_asks_for_one():
    bare = {"SeriesDate": None, "StudyDate": None, "AcquisitionDate": None}
    with pytest.raises(ScanError, match="give --scan-time 'YYYY-MM-DD HH:MM:SS'"):
        suv_of([header(**bare)])
    given = Given(scan_time=datetime(2024, 1, 15, 11))
    assert suv_of([header(**bare)], given).factor == pytest.approx(FACTOR)


def test_what_is_supplied_and_not_used_or_replaces_a_value_is_told():
    gml = suv_of([header(Units="GML")], Given(weight=90.0, scan_time=datetime(2024, 1, 15, 11)))
    assert [line.split()[0] for line in gml.warnings] == ["--weight", "--scan-time"]
    found = suv_of([header()], Given(weight=55.0))
    assert (
        "--weight takes the place of PatientWeight (0010,1030), which says 70.0" in found.warnings
    )
    assert suv_of([header()], Given(weight=70.0)).warnings == ()


def test_a_day_is_no_moment():
    assert uptake(RadiopharmaceuticalStartDateTime="20240115") == (60, [])


@pytest.mark.parametrize("time", ["10300", "11:00\\12:00", "noon"])
def test_a_time_of_the_series_that_cannot_be_read_is_told(time):
    with pydicom.config.disable_value_validation():
        minutes, (warning,) = uptake(SeriesTime=time)
    assert minutes == 60
    assert "SeriesTime (0008,0031) cannot be read" in warning


@pytest.mark.parametrize(
    ("moment", "message"),
    [("2024-01-15 10:55:00", "cannot be read"), ("20240115105500+0000", "offset from UTC")],
)
def test_ges_scan_time_that_cannot_be_used_is_told(moment, message):
    about = header()
    with pydicom.config.disable_value_validation():
        block = about.private_block(0x0009, "GEMS_PETD_01", create=True)
        block.add_new(0x0D, "LO", moment)
    found = suv_of([about])
    assert found.uptake_minutes == 60
    assert message in found.warnings[0]


def test_the_zone_is_compared_though_the_time_of_the_scan_is_given():
    zones = [header(TimezoneOffsetFromUTC=zone) for zone in ("+0100", "+0200")]
    with pytest.raises(ScanError, match=r"differ in TimezoneOffsetFromUTC .*\+0100 and \+0200"):
        suv_of(zones, Given(scan_time=timedelta(hours=11)))
