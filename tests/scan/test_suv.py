"""Stored values to SUV: five real headers, and each rule of its own."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

pytest.importorskip("pydicom", reason="requirements-scan.txt is not installed")

from pydicom.dataset import Dataset

from scan.errors import ScanError
from scan.suv import Given, suv_of
from scan.times import parse_datetime, parse_given, parse_time
from tests.support.pet_series import FACTOR, header

CASES = Path(__file__).resolve().parents[3] / "shared" / "suv-cases.json"
# From cornerstonejs/calculate-suv (MIT): what a header of each vendor says, without anything that
# names a scan or a patient. The factors are theirs.
REAL = {
    "Philips BQML": (
        0.0007463747013889488,
        {
            "SeriesTime": "110155", "AcquisitionTime": "110156", "PatientWeight": 64,
            "RadionuclideTotalDose": 126e6, "RadionuclideHalfLife": 6586.199707,
            "RadiopharmaceuticalStartTime": "100058",
            "RadiopharmaceuticalStartDateTime": "20240115100058",
        },
    ),
    "Siemens": (
        0.00042748316187197236,
        {
            "SeriesTime": "104829.000000", "AcquisitionTime": "104830.351370", "PatientWeight": 67,
            "RadionuclideTotalDose": 374e6, "RadionuclideHalfLife": 6586.2,
            "RadiopharmaceuticalStartTime": "083045.000000",
            "RadiopharmaceuticalStartDateTime": "20240115083045.000000 ",
        },
    ),
    "series later than its acquisition": (
        0.00026503312764157046,
        {
            "SeriesTime": "134918.000000", "AcquisitionTime": "130348.234000", "PatientWeight": 69,
            "RadionuclideTotalDose": 388e6, "RadionuclideHalfLife": 6586.2,
            "RadiopharmaceuticalStartTime": "120037.000000",
            "RadiopharmaceuticalStartDateTime": None,
        },
    ),
    "no start date-time": (
        0.0003721089202818729,
        {
            "SeriesTime": "135431.843000", "AcquisitionTime": "141555.687000",
            "PatientWeight": 102, "RadionuclideTotalDose": 412e6, "RadionuclideHalfLife": 6586.2,
            "RadiopharmaceuticalStartTime": "125000.000000",
            "RadiopharmaceuticalStartDateTime": None,
        },
    ),
}  # fmt: skip


def factor(given=None, **changes) -> float:
    return suv_of([header(**changes)], given or Given()).factor


def philips(creator=True, suv=None, activity=None) -> Dataset:
    about = header(Units="CNTS")
    if creator:
        block = about.private_block(0x7053, "Philips PET Private Group", create=True)
        add = block.add_new
    else:

        def add(element, vr, value):
            about.add_new((0x7053, 0x1000 | element), vr, value)

    if suv is not None:
        add(0x00, "DS", suv)
    if activity is not None:
        add(0x09, "DS", activity)
    return about


@pytest.mark.parametrize("name", REAL)
def test_real_headers_give_the_known_factors(name):
    expected, elements = REAL[name]
    assert factor(**elements) == pytest.approx(expected, rel=1e-9)


def from_json(values: dict) -> Dataset:
    about, tracer = Dataset(), Dataset()
    for keyword, value in values.items():
        if keyword == "PhilipsPETPrivateGroup":
            block = about.private_block(0x7053, "Philips PET Private Group", create=True)
            for element, name in ((0, "SUVScaleFactor"), (9, "ActivityConcentrationScaleFactor")):
                if name in value:
                    block.add_new(element, "DS", value[name])
        else:
            setattr(tracer if keyword.startswith("Radio") else about, keyword, value)
    about.RadiopharmaceuticalInformationSequence = [tracer]
    return about


@pytest.mark.skipif(not CASES.is_file(), reason="shared/suv-cases.json is not beside the checkout")
def test_the_five_shared_series_give_their_factors():
    cases = json.loads(CASES.read_text())["cases"]
    assert len(cases) == 5
    for case in cases:
        found = suv_of([from_json(values) for values in case["instances"]]).factor
        assert found == pytest.approx(case["suvbw_factor"], rel=1e-9), case["name"]


def test_bqml_start_decays_the_dose_to_the_series_time():
    assert factor() == pytest.approx(FACTOR, rel=1e-12)


def test_bqml_admin_needs_no_further_decay():
    assert factor(DecayCorrection="ADMIN") == pytest.approx(70 * 1000 / 350e6)


def test_gml_is_suv_already_and_needs_neither_weight_nor_dose():
    suv = suv_of([header(Units="GML", PatientWeight=None, RadionuclideTotalDose=None)])
    assert suv.factor == 1.0


@pytest.mark.parametrize("kind", ["LBM", "BSA", "IBW"])
def test_gml_by_anything_but_body_weight_is_refused(kind):
    with pytest.raises(ScanError, match=rf"SUVType \(0054,1006\) is {kind}"):
        factor(Units="GML", SUVType=kind)


def test_philips_counts_by_the_suv_factor():
    assert suv_of([philips(suv="0.000728 ")]).factor == 0.000728


def test_philips_suv_factor_goes_before_the_activity_factor():
    assert suv_of([philips(suv="0.5", activity="4.7")]).factor == 0.5


@pytest.mark.parametrize("suv", [None, "0"])
def test_philips_counts_by_the_activity_factor(suv):
    found = suv_of([philips(suv=suv, activity="4.709921")]).factor
    assert found == pytest.approx(4.709921 * FACTOR)


def test_philips_factors_are_found_after_an_anonymiser_removed_their_creator():
    assert suv_of([philips(creator=False, suv="0.000728")]).factor == 0.000728


def test_philips_factors_of_unknown_type_are_read():
    about = header(Units="CNTS")
    about.add_new((0x7053, 0x0010), "LO", "Philips PET Private Group")
    about.add_new((0x7053, 0x1000), "UN", b"0.000728\0")
    assert suv_of([about]).factor == 0.000728


@pytest.mark.parametrize("value", [None, "0"])
def test_counts_without_factors_are_refused(value):
    with pytest.raises(ScanError, match=r"\(7053,1000\) and \(7053,1009\), are missing or 0"):
        suv_of([philips(suv=value, activity=value)])


@pytest.mark.parametrize("units", ["NONE", "PROPCPS", "CM2ML", "PCNT", "CPS"])
def test_other_units_are_refused_by_name(units):
    with pytest.raises(ScanError, match=rf"Units \(0054,1001\) is {units}.*--suv-factor"):
        factor(Units=units)


@pytest.mark.parametrize("missing", ["ATTN", "DECY"])
def test_what_is_not_corrected_is_refused(missing):
    done = [name for name in ("ATTN", "DECY", "SCAT") if name != missing]
    with pytest.raises(ScanError, match=rf"CorrectedImage \(0028,0051\).*without {missing}"):
        factor(CorrectedImage=done)


def test_a_single_correction_is_no_list():
    with pytest.raises(ScanError, match="without DECY"):
        factor(CorrectedImage="ATTN")


@pytest.mark.parametrize("decay", ["NONE", None, ""])
def test_other_decay_corrections_are_refused(decay):
    with pytest.raises(ScanError, match=r"DecayCorrection \(0054,1102\)"):
        factor(DecayCorrection=decay)


@pytest.mark.parametrize(
    ("keyword", "number", "option"),
    [
        ("PatientWeight", "0010,1030", "--weight"),
        ("RadionuclideTotalDose", "0018,1074", "--dose"),
        ("RadionuclideHalfLife", "0018,1075", "--half-life"),
        ("Units", "0054,1001", "--suv-factor"),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_element_is_named_with_the_option_that_supplies_it(
    keyword, number, option, value
):
    with pytest.raises(ScanError, match=rf"{keyword} \({number}\) is missing; give {option}"):
        factor(**{keyword: value})


@pytest.mark.parametrize(
    ("keyword", "said"),
    [
        ("PatientWeight", "0 kg; give --weight KG"),
        ("RadionuclideTotalDose", "0, which is no dose in becquerel; give --dose MBQ"),
        ("RadionuclideHalfLife", "0 s; give --half-life SECONDS"),
    ],
)
def test_zero_is_not_said_to_be_missing(keyword, said):
    with pytest.raises(ScanError, match=rf"{keyword} \(....,....\) is {said}"):
        factor(**{keyword: 0})


def test_a_sequence_that_is_missing_is_a_missing_dose():
    about = header()
    del about.RadiopharmaceuticalInformationSequence
    with pytest.raises(ScanError, match=r"RadionuclideTotalDose \(0018,1074\)"):
        suv_of([about])


def test_no_injection_time_is_named_with_its_option():
    changes = {"RadiopharmaceuticalStartTime": None, "RadiopharmaceuticalStartDateTime": None}
    with pytest.raises(ScanError, match=r"StartTime \(0018,1072\) is missing; give --injection"):
        factor(**changes)
    for given in (timedelta(hours=10), datetime(2024, 1, 15, 10)):
        assert factor(Given(injection_time=given), **changes) == pytest.approx(FACTOR)


def test_options_go_before_the_header():
    given = Given(weight=80, dose=300e6, half_life=6000)
    expected = 80e3 / (300e6 * 2 ** (-3600 / 6000))
    assert factor(given) == pytest.approx(expected)


def test_a_given_factor_goes_before_every_rule():
    about = header(Units="CNTS", PatientWeight=None, CorrectedImage=None, DecayCorrection=None)
    assert suv_of([about], Given(suv_factor=0.25)).factor == 0.25


def test_a_dose_in_megabecquerel_is_refused():
    with pytest.raises(ScanError, match="no dose in becquerel; give --dose"):
        factor(RadionuclideTotalDose=350)


def test_the_start_date_time_does_for_a_missing_time_and_the_other_way_round():
    assert factor(RadiopharmaceuticalStartTime=None) == pytest.approx(FACTOR)
    assert factor(RadiopharmaceuticalStartDateTime=None) == pytest.approx(FACTOR)
    assert factor(RadiopharmaceuticalStartDateTime="") == pytest.approx(FACTOR)


def test_injection_before_midnight_and_scan_after_it():
    after = {"SeriesTime": "003000", "AcquisitionTime": "003000"}
    without_date = {
        "RadiopharmaceuticalStartTime": "233000",
        "RadiopharmaceuticalStartDateTime": None,
    }
    with_date = {"RadiopharmaceuticalStartDateTime": "20240114233000"}
    assert factor(**after, **without_date) == pytest.approx(FACTOR)
    assert factor(**after, **with_date) == pytest.approx(FACTOR)


def test_a_date_time_of_another_day_gives_way_to_the_time_with_a_warning():
    suv = suv_of([header(RadiopharmaceuticalStartDateTime="19990101100000")])
    assert suv.factor == pytest.approx(FACTOR)
    assert "0018,1078" in suv.warnings[0]


def test_an_injection_long_before_the_scan_is_refused():
    with pytest.raises(ScanError, match="do not fit together; give --injection-time"):
        factor(RadiopharmaceuticalStartDateTime="20240101100000", RadiopharmaceuticalStartTime=None)


def test_an_injection_after_the_scan_is_refused():
    with pytest.raises(ScanError, match="do not fit together"):
        factor(RadiopharmaceuticalStartTime="110500", RadiopharmaceuticalStartDateTime=None)


def test_a_series_later_than_its_acquisitions_starts_with_the_earliest():
    beds = [header(SeriesTime="150000", AcquisitionTime=t) for t in ("110700", "110000", "110300")]
    assert suv_of(beds).factor == pytest.approx(FACTOR)


def test_a_series_earlier_than_its_acquisitions_starts_by_its_own_time():
    beds = [header(AcquisitionTime=t) for t in ("110700", "110300")]
    assert suv_of(beds).factor == pytest.approx(FACTOR)


def test_ges_private_scan_time_goes_first():
    about = header(SeriesTime="150000", AcquisitionTime="120000")
    about.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(
        0x0D, "DT", "20240115110000.00"
    )
    suv = suv_of([about])
    assert suv.factor == pytest.approx(FACTOR)
    assert "0009,100D" in suv.scanned_from


def test_without_any_scan_time_the_option_is_named():
    changes = {"SeriesTime": None, "AcquisitionTime": None}
    with pytest.raises(ScanError, match=r"SeriesTime \(0008,0031\) is missing; give --scan-time"):
        factor(**changes)
    assert factor(Given(scan_time=timedelta(hours=11)), **changes) == pytest.approx(FACTOR)


def test_slices_of_different_units_are_refused():
    with pytest.raises(ScanError, match=r"differ in Units \(0054,1001\)"):
        suv_of([header(), header(Units="GML")])


def test_an_offset_is_brought_to_the_zone_of_the_other_times():
    zoned = {
        "TimezoneOffsetFromUTC": "+0100",
        "RadiopharmaceuticalStartDateTime": "20240115090000.000000+0000",
        "RadiopharmaceuticalStartTime": None,
    }
    assert factor(**zoned) == pytest.approx(FACTOR)
    # Where the others name no zone, all clocks are taken to be the same.
    plain = {
        "RadiopharmaceuticalStartDateTime": "20240115100000+0100",
        "RadiopharmaceuticalStartTime": None,
    }
    assert factor(**plain) == pytest.approx(FACTOR)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("104829.25", 38909.25), ("10:48:29", 38909), ("1048", 38880), ("10", 36000),
     ("104829.1234567", 38909.123456), (" 104829 ", 38909)],
)  # fmt: skip
def test_times_of_every_form(text, seconds):
    assert parse_time(text).total_seconds() == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "2504", "1060", "noon", "1", "-10", "10300", "1100005", "20240115"]
)
def test_what_is_no_time(text):
    assert parse_time(text) is None


def test_date_times_of_every_form():
    assert parse_datetime("20240115103000.5") == datetime(2024, 1, 15, 10, 30, 0, 500_000)
    assert parse_datetime("202401151030") == datetime(2024, 1, 15, 10, 30)
    assert parse_datetime("20240115") is None  # a day is no moment
    assert parse_datetime("20240115100000+9959", UTC) is None
    plus_two = timezone(timedelta(hours=2))
    assert parse_datetime("20240115233000-0100", plus_two) == datetime(2024, 1, 16, 2, 30)
    assert parse_datetime("20241315103000") is None


def test_times_that_a_person_types():
    assert parse_given("10:05") == timedelta(hours=10, minutes=5)
    assert parse_given("2020-12-17 10:05:30") == datetime(2020, 12, 17, 10, 5, 30)
    assert parse_given("2020-12-17T10:05") == datetime(2020, 12, 17, 10, 5)
    assert parse_given("20201217100530") == datetime(2020, 12, 17, 10, 5, 30)
    with pytest.raises(ScanError, match="is no time"):
        parse_given("later")


def test_a_number_that_is_none_is_refused():
    about = header()
    about.add_new((0x0010, 0x1030), "DS", "70")
    about["PatientWeight"]._value = "seventy"
    with pytest.raises(ScanError, match=r"PatientWeight \(0010,1030\) is no number"):
        suv_of([about])
    assert math.isfinite(suv_of([about], Given(weight=70)).factor)


def test_a_missing_date_is_that_of_another_element():
    assert factor(SeriesDate=None) == pytest.approx(FACTOR)
    assert factor(SeriesDate=None, AcquisitionDate=None) == pytest.approx(FACTOR)
    with pytest.raises(ScanError, match="give --scan-time"):
        factor(SeriesDate=None, AcquisitionDate=None, StudyDate=None)


def test_an_acquisition_after_midnight_without_a_date_is_of_the_next_day():
    late = {
        "SeriesTime": "235500",
        "AcquisitionDate": None,
        "RadiopharmaceuticalStartTime": "225500",
        "RadiopharmaceuticalStartDateTime": None,
    }
    beds = [header(AcquisitionTime=t, **late) for t in ("235600", "000200")]
    assert suv_of(beds).factor == pytest.approx(FACTOR)


def test_another_makers_private_elements_are_no_scan_time():
    about = header()
    about.private_block(0x0009, "SOMEBODY", create=True).add_new(0x0D, "DT", "20240115090000")
    assert suv_of([about]).factor == pytest.approx(FACTOR)


@pytest.mark.parametrize("text", ["20240115", "20240115090000+0000", "0001-01-01 00:00"])
def test_a_given_time_that_is_none_or_has_an_offset_is_refused(text):
    with pytest.raises(ScanError):
        parse_given(text)
